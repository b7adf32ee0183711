import { recordsIn, type Answers, type MxRr } from '../answers';
import type { Check, Evidence, Expected, Refined, Warning } from '../check';
import { hostOf } from '../entry';
import type { Finding } from '../findings';
import { operation, type Operation, type Place } from '../operation';
import { publishedAt, type Published } from '../published';
import { trace } from '../synthesis';
import { possibleZones, registrableDomain } from '../zone';
import { cnameAtName, fail, finding, pass, type Conclusion } from './finding';
import { mailHost, mailProvider } from './mail-provider';
import { appended, ask, autoAppended, isAbsent, onParent, parentsOf } from './misplaced';

export const mailHostPreference = 10;
const expected = `${mailHostPreference} ${mailHost}`;
/** Writes MX records as operations do, each once, by preference. */
export const shownMx = (records: readonly MxRr[]): string[] => uniqueMx(records).map(shown);
const shown = ({ preference, exchange }: MxRr): string => `${preference} ${exchange || '.'}`;
const isOurs = ({ preference, exchange }: MxRr): boolean => preference === mailHostPreference && exchange === mailHost;
/** Whether a DNS provider has appended the zone to our host, which was typed without the dot at its end. */
const isOursAppended = (name: string, exchange: string): boolean => appended(mailHost, name).includes(exchange);

/** The MX record: mail for the domain goes to Sendmux first. */
export const mx = {
  name: 'mx',
  field: 'mx',
  title: 'MX',
  label: 'the MX record',
  authority: 'dns',
  modes: ['send_receive'],
  faults: { mx_missing: 'missing' },
  severities: { mx_foreign_backup: 'warning' },
  records: ({ name }) => [{ name, type: 'MX', values: [expected] }],
  entry: ({ name, mode }: Expected) =>
    mode === 'send_only' ? [] : [{ priority: mailHostPreference, target: mailHost, host: hostOf(name, name) }],
  questions: ({ name }) => ask('MX', name),
  judge,
  clues,
  refine: (domain, { outcome, code, observed }, { clues }) => {
    if (outcome !== 'fail') return undefined;
    return code === 'mx_missing' ? misplaced(domain, clues) : alias(domain, observed, clues);
  },
  warnings: (domain, { outcome }, evidence) => {
    if (outcome === 'pass') return [...wildcard(domain, evidence), ...mtaSts(domain, evidence.clues)];
    return outcome === 'fail' ? unregistered(domain, evidence) : [];
  },
  hints: ({ name }) => {
    const parent = possibleZones(name)[1];
    return [
      `Check that the MX target is ${mailHost} (with or without a trailing dot).`,
      `Check the priority is ${mailHostPreference}.`,
      `Make sure the MX is on ${name}${parent ? `, not ${parent}` : ', the domain that you registered with Sendmux'}.`,
      'MX records cannot be proxied: where your DNS provider can proxy records, set it to “DNS only”.',
    ];
  },
  reads: ({ name }) => [{ name, mx: true }],
  plan,
} as const satisfies Check;

const setMx = (name: string): string => `Set MX ${mailHostPreference} ${mailHost} on ${name}`;

function judge({ name }: Expected, answers: Answers): Finding {
  return finding<MxRr>(
    {
      check: 'mx',
      domain: name,
      type: 'MX',
      name,
      expected,
      present: shown,
      missing: () =>
        fail(
          'mx_missing',
          `There is no MX record at ${name}, and an address record does not stand in for one. ${setMx(name)}.`,
        ),
      decide: (records, aliases) => {
        if (aliases.length > 0) return cnameAtName(name, aliases[0]!);
        const isOurs = records.some(({ exchange }) => exchange === mailHost);
        if (
          records.some(({ exchange, preference }) => exchange === '' && (!isOurs || preference <= mailHostPreference))
        )
          return fail(
            'mx_null',
            `${name} has a null MX: it says that it accepts no mail (RFC 7505). ${setMx(name)} and remove the null MX.`,
          );
        const best = [...records].sort((a, b) => a.preference - b.preference);
        const ours = best.filter(({ exchange }) => exchange === mailHost);
        const foreign = best.filter(({ exchange }) => exchange !== mailHost);
        return ours.some(({ preference }) => preference === mailHostPreference)
          ? besideOurs(foreign)
          : withoutOurs(name, ours, foreign);
      },
    },
    answers.at('MX', name),
  );
}

/** Concludes where no MX record is the expected one. Records come by preference. */
function withoutOurs(name: string, ours: readonly MxRr[], foreign: readonly MxRr[]): Conclusion {
  if (ours.length > 0)
    return fail(
      'mx_wrong_priority',
      `The MX to ${mailHost} has priority ${ours[0]!.preference}. Check the priority is ${mailHostPreference}.`,
    );
  const address = foreign.find(({ exchange }) => isAddress.test(exchange));
  if (address)
    return fail(
      'mx_target_is_ip',
      `The MX target ${address.exchange} is an IP address; a hostname is needed (RFC 1035 section 3.3.9). ${setMx(name)}.`,
    );
  const mistyped = foreign.find(({ exchange }) => isOursAppended(name, exchange));
  if (mistyped)
    return fail(
      'mx_wrong_target',
      `The MX of ${name} points to ${mistyped.exchange}: your DNS provider has appended the zone to the target. Enter ${mailHost}. with the dot at its end, so that it stays ${mailHost}.`,
    );
  const host = foreign[0]!;
  const provider = mailProvider(host.exchange);
  return fail(
    'mx_wrong_target',
    `The MX of ${name} points to ${host.exchange}${provider ? `: ${provider} is receiving now` : ''}. Check that the target is exactly ${mailHost}, without an alias or a proxy in between. ${setMx(name)}.`,
  );
}

/** Concludes where the expected MX record is in place: whether other hosts get mail before it or as often. */
function besideOurs(foreign: readonly MxRr[]): Conclusion {
  const before = foreign.find(({ preference }) => preference < mailHostPreference);
  if (before)
    return fail(
      'mx_shadowed',
      `Mail goes to ${shown(before)} first. Remove that MX, or give it a priority above ${mailHostPreference}.`,
    );
  const beside = foreign.find(({ preference }) => preference === mailHostPreference);
  if (beside)
    return fail(
      'mx_split',
      `Mail is shared between ${mailHost} and ${beside.exchange}, which have the same priority (RFC 5321 section 5.1). Remove ${shown(beside)}.`,
    );
  if (foreign.length > 0)
    return pass(
      'mx_foreign_backup',
      `The record is in place. Mail may also reach ${shown(foreign[0]!)} when ours is not reachable.`,
    );
  return pass();
}

const isAddress = /^(\d+(\.\d+){3}|[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]*)$/i;

function clues({ name }: Expected, { outcome, code, observed }: Finding, { answers, clues }: Evidence) {
  const parents = parentsOf(name);
  if (outcome === 'pass') {
    const { open } = trace({ type: 'MX', name }, clues.with(answers));
    return [...ask('TXT', `_mta-sts.${name}`), ...(open ? [open] : [])];
  }
  if (code === 'mx_missing') return ask('MX', ...appended(name, name), ...parents, registrableDomain(name));
  const isAskable = (host: string) => host !== mailHost && host !== '.' && host.includes('.');
  return code === 'mx_wrong_target'
    ? ask('CNAME', ...[...new Set(observed.map(targetOf).filter(isAskable))].slice(0, 3))
    : [];
}

const targetOf = (rr: string): string => rr.slice(rr.indexOf(' ') + 1);

function misplaced(domain: Expected, clues: Answers): Refined | undefined {
  return (
    autoAppended(domain, { name: domain.name, type: 'MX' }, clues, (rrs) =>
      rrs.some(isOurs) ? expected : undefined,
    ) ??
    onParent(
      domain,
      (zone) => zone,
      (zone) =>
        !trace({ type: 'MX', name: zone }, clues).source && (recordsIn(clues.at('MX', zone))?.some(isOurs) ?? false),
      `the MX ${expected}`,
    )
  );
}

function alias({ name }: Expected, observed: readonly string[], clues: Answers): Refined | undefined {
  const target = observed.map(targetOf).find((host) => recordsIn(clues.at('CNAME', host))?.[0] === mailHost);
  return target === undefined
    ? undefined
    : {
        code: 'mx_target_alias',
        message: `The MX of ${name} points to ${target}, which is an alias (CNAME) of ${mailHost}. An MX must not name an alias (RFC 2181 section 10.3): set its target to ${mailHost} itself.`,
      };
}

/** Warns that the registrable domain is not registered, so that no record can be placed (case A21). */
function unregistered({ name }: Expected, { answers, clues }: Evidence): Warning[] {
  const zone = registrableDomain(name);
  if (!isAbsent(zone === name ? answers : clues, zone)) return [];
  return [
    {
      code: 'domain_nxdomain',
      severity: 'warning',
      message: `${zone} does not exist in the DNS. Check that it is registered and that its name servers are set.`,
    },
  ];
}

/**
 * Warns of an MX that comes from a wildcard, which answers only for a name without any record of its own (RFC 4592).
 */
function wildcard({ name }: Expected, { answers, clues }: Evidence): Warning[] {
  const { source } = trace({ type: 'MX', name }, clues.with(answers));
  if (source?.kind !== 'wildcard') return [];
  return [
    {
      code: 'wildcard_mx',
      severity: 'warning',
      message: `The MX is the wildcard’s, ${source.owner}: ${name} has no record of its own. Once it has one, such as the SPF record, the wildcard answers no more for it (RFC 4592 section 2.2.1). Place an MX at ${name} itself.`,
    },
  ];
}

function mtaSts({ name }: Expected, clues: Answers): Warning[] {
  const at = `_mta-sts.${name}`;
  if (!recordsIn(clues.at('TXT', at))?.some((text) => /^v=STSv1\s*(;|$)/.test(text))) return [];
  return [
    {
      code: 'mta_sts_present',
      severity: 'warning',
      message: `${at} announces an MTA-STS policy. If its mode is enforce and it does not list mx: ${mailHost}, senders refuse to deliver (RFC 8461): add that line, or remove the policy.`,
    },
  ];
}

function plan({ name }: Expected, published: Published): Operation[] {
  const own = publishedAt(published, name);
  const operations = planMx(name, own.mx);
  return removesCname(name, published) ? [cnameGone(name, own.cname!), ...operations] : operations;
}

/** Tells whether the MX record has no place at a name before its CNAME is removed. */
export function removesCname(name: string, published: Published): boolean {
  const { cname, mx, ledMx } = publishedAt(published, name);
  return cname !== null && (ledMx !== null || planMx(name, mx).some(({ action }) => action !== 'keep'));
}

/** Removes the CNAME of a domain. */
export const cnameGone = (name: string, cname: string): Operation =>
  operation(
    'delete',
    { name, type: 'CNAME' },
    [cname],
    `A name with a CNAME can have no MX or TXT record. What ${cname} serves for ${name} stops, so move it or choose a subdomain of its own for mail.`,
  );

const zoneAppended = `The DNS provider has appended the zone to the target: where it does so, enter ${mailHost}. with the dot at its end.`;

const uniqueMx = (records: readonly MxRr[]): MxRr[] =>
  [...new Map(records.map((rr) => [shown(rr), rr])).values()].sort((a, b) =>
    a.preference === b.preference ? (a.exchange < b.exchange ? -1 : 1) : a.preference - b.preference,
  );

function planMx(name: string, mx: readonly MxRr[]): Operation[] {
  const place: Place = { name, type: 'MX' };
  const unique = uniqueMx(mx);
  const isMistyped = ({ exchange }: MxRr) => isOursAppended(name, exchange);
  const ours = unique.filter(({ exchange }) => exchange === mailHost);
  const mistyped = unique.filter(isMistyped);
  const inPlace = ours.some(({ preference }) => preference === mailHostPreference);
  return [
    inPlace
      ? operation('keep', place, [expected], 'The MX record is in place.')
      : ours.length > 0
        ? operation('replace', place, [expected], `The priority has to be ${mailHostPreference}.`, ours.map(shown))
        : mistyped.length > 0
          ? operation('replace', place, [expected], zoneAppended, mistyped.map(shown))
          : operation('create', place, [expected], 'Routes inbound mail to Sendmux.'),
    ...unique
      .filter((rr) => rr.exchange !== mailHost && (inPlace || ours.length > 0 || !isMistyped(rr)))
      .map((rr) => {
        const value = shown(rr);
        if (isMistyped(rr)) return operation('delete', place, [value], zoneAppended);
        if (rr.exchange === '')
          return operation('delete', place, [value], `A null MX says that ${name} accepts no mail (RFC 7505).`);
        if (rr.preference > mailHostPreference)
          return operation('keep', place, [value], 'A backup: mail may reach it when ours is not reachable.');
        return operation(
          'delete',
          place,
          [value],
          `Mail goes to ${rr.exchange} ${rr.preference < mailHostPreference ? 'first' : 'as often as to us'}. Delete it, or give it a priority above ${mailHostPreference} to keep it as a backup.`,
        );
      }),
  ];
}
