import { functionsIn, itIsLinear, ofText, textOf, textsOf, type Reader } from '../../test/support/bounded-time';
import type { Finding } from '@app/mail-records';
import { recipientOf } from './deliveries';
import {
  claimable,
  code,
  day,
  escape,
  failureMail,
  row,
  visible,
  type Failure,
  type FailureMail,
} from './failure-mail';
import { nameMail } from './name-mail';
import { newRecordsMail } from './new-records-mail';
import { recoveryMail } from './recovery-mail';
import { senderDomain, senderFor } from './sender';
import { setupMail } from './setup-mail';
import { smtpFault, withoutAddresses } from './smtp-error';
import { teamFailureMail } from './team-failure-mail';
import { webhookMail } from './webhook-mail';

const at = '2026-03-01T10:00:00.000Z';

/** A mail about a failure in whose findings the text stands, whole and in parts. */
const ofFailure =
  (read: (failure: Failure) => FailureMail): Reader =>
  (text, length) => {
    const finding = (message: string, observed: readonly string[]): Finding => ({
      check: 'spf',
      outcome: 'fail',
      code: 'spf_missing',
      message,
      name: 'mail.acme.com',
      type: 'TXT',
      expected: 'x',
      observed,
    });
    const [one, many] = [textOf(text, length), textsOf(text, length)];
    const failing = [finding(one, [one]), finding('x', many)];
    const failure = { domainId: 'mdom_1', name: 'mail.acme.com', at, failing, unjudged: failing };
    return { octets: 3 * length, run: () => read(failure) };
  };

const readers: Record<string, Reader> = {
  day: ofText(() => day(at)),
  escape: ofText(escape),
  failureMail: ofFailure(failureMail),
  nameMail: ofText((name) =>
    nameMail({ about: 'released', at }, { status: 'deleted', id: 'mdom_1', name, team: 'team_1', addedAt: at }, 1),
  ),
  newRecordsMail: (text, length) => {
    const records = textsOf(text, length).map((value) => ({ name: value, type: 'CNAME' as const, value }));
    return { octets: 2 * length, run: () => newRecordsMail({ name: 'mail.acme.com', at, records }) };
  },
  recipientOf: ofText(recipientOf),
  recoveryMail: ofText((name) => recoveryMail({ name, at })),
  senderDomain: ofText((text) => {
    try {
      return senderDomain(text);
    } catch (error) {
      return (error as Error).message;
    }
  }),
  senderFor: ofText((text) => senderFor([text], 'Sendmux <notifications@sendmux.ai>')),
  setupMail: (text, length) => {
    const records = textsOf(text, length).map(
      (value) => ({ type: 'TXT', name: value, host: value, value, ttl: 300 }) as const,
    );
    const link = { token: 'smx_setup_x', expiresAt: new Date(0) };
    const mail = { link, domain: 'mail.acme.com', zone: 'acme.com', records };
    return { octets: 6 * length, run: () => setupMail(mail, 'https://app.example.com') };
  },
  smtpFault: ofText((response) => smtpFault({ responseCode: 550, command: 'RCPT TO', response })),
  teamFailureMail: ofFailure((failure) => teamFailureMail([failure, failure])),
  visible: ofText(visible),
  row: ofText((text) => row('Value', text)),
  code: ofText(code),
  claimable: ofText((name) => claimable(name, at)),
  webhookMail: ofText((description) =>
    webhookMail({ id: 'whk_1', url: 'https://hooks.acme.com/a', description, because: 'gone' }, at),
  ),
  withoutAddresses: ofText(withoutAddresses),
};

const isMeant = (file: string) => /(-mail|^sender|^smtp-error|^deliveries)\.ts$/.test(file);

describe('what others wrote is put into mails and logs in time linear in its length', () => {
  it('by every function that there is', () =>
    expect(Object.keys(readers).sort()).toEqual(functionsIn(__dirname, isMeant)));

  itIsLinear(readers, 17, 25);

  it('N1: addresses in the reply of a mail server are hidden, wherever they stand', () =>
    expect(withoutAddresses('550 <ada@acme.com>: to=ada@acme.com, a@b@c x@ @y @@ refused')).toBe(
      '550 <[address]>: [address] [address] x@ @y @@ refused',
    ));
});
