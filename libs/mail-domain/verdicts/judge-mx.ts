import type { Finding } from '../findings';
import { mailProvider } from '../mail-provider';
import { mailHost, mailHostPreference } from '../records';
import type { Expected } from './expected';
import { cnameAtName, fail, finding, pass } from './finding';
import type { Answer, MxRr } from './quorum';

export function judgeMx({ name }: Expected, answers: readonly Answer<MxRr>[]): Finding {
  const set = `Set MX ${mailHostPreference} ${mailHost} on ${name}`;
  return finding<MxRr>(
    {
      check: 'mx',
      type: 'MX',
      name,
      expected: `${mailHostPreference} ${mailHost}`,
      present: ({ preference, exchange }) => `${preference} ${exchange || '.'}`,
      missing: () =>
        fail(
          'mx_missing',
          `There is no MX record at ${name}, and an address record does not stand in for one. ${set}.`,
        ),
      decide: (records, aliases) => {
        if (aliases.length > 0) return cnameAtName(name, aliases[0]!);
        const isOurs = records.some(({ exchange }) => exchange === mailHost);
        if (
          records.some(({ exchange, preference }) => exchange === '' && (!isOurs || preference <= mailHostPreference))
        )
          return fail(
            'mx_null',
            `${name} has a null MX: it says that it accepts no mail (RFC 7505). ${set} and remove the null MX.`,
          );
        const best = [...records].sort((a, b) => a.preference - b.preference);
        const ours = best.filter(({ exchange }) => exchange === mailHost);
        const foreign = best.filter(({ exchange }) => exchange !== mailHost);
        const at = (host: MxRr) => `${host.preference} ${host.exchange || '.'}`;
        if (!ours.some(({ preference }) => preference === mailHostPreference)) {
          if (ours.length > 0)
            return fail(
              'mx_wrong_priority',
              `The MX to ${mailHost} has priority ${ours[0]!.preference}. Check the priority is ${mailHostPreference}.`,
            );
          const address = foreign.find(({ exchange }) => isAddress.test(exchange));
          if (address)
            return fail(
              'mx_target_is_ip',
              `The MX target ${address.exchange} is an IP address; a hostname is needed (RFC 1035 section 3.3.9). ${set}.`,
            );
          const host = foreign[0]!;
          const provider = mailProvider(host.exchange);
          return fail(
            'mx_wrong_target',
            `The MX of ${name} points to ${host.exchange}${provider ? `: ${provider} is receiving now` : ''}. Check that the target is exactly ${mailHost}, without an alias or a proxy in between. ${set}.`,
          );
        }
        const before = foreign.find(({ preference }) => preference < mailHostPreference);
        if (before)
          return fail(
            'mx_shadowed',
            `Mail goes to ${at(before)} first. Remove that MX, or give it a priority above ${mailHostPreference}.`,
          );
        const beside = foreign.find(({ preference }) => preference === mailHostPreference);
        if (beside)
          return fail(
            'mx_split',
            `Mail is shared between ${mailHost} and ${beside.exchange}, which have the same priority (RFC 5321 section 5.1). Remove ${at(beside)}.`,
          );
        if (foreign.length > 0)
          return pass(
            'mx_foreign_backup',
            `The record is in place. Mail may also reach ${at(foreign[0]!)} when ours is not reachable.`,
          );
        return pass();
      },
    },
    answers,
  );
}

const isAddress = /^(\d+(\.\d+){3}|[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]*)$/i;
