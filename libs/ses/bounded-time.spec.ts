import { Logger } from '@nestjs/common';
import { functionsIn, itIsLinear, ofText, outcomeOf, type Reader } from '../../test/support/bounded-time';
import { isKnownSesError, sesFault } from './ses-fault';
import { atOnce } from '../../test/support/turns';
import { belongsTo, SesIdentities } from './ses-identities';
import { listedStatusOf } from './ses-listings';

/** What stands for SES: it answers each call with this, or throws it. */
class Ses extends SesIdentities {
  protected override ready(): Promise<void> {
    return Promise.resolve();
  }

  answers(answer: object | Error): this {
    const send = (): Promise<object> => {
      if (answer instanceof Error) throw answer;
      return Promise.resolve(answer);
    };
    Object.assign(this.client, { send });
    return this;
  }
}
const ses = new Ses({ region: 'eu-west-1', timeoutMs: 10_000 }, atOnce);
beforeAll(() => void Logger.overrideLogger(false));
afterAll(() => ses.close());

const $metadata = { httpStatusCode: 200, requestId: 'x' };
const ofAnswer = (make: (text: string) => object | Error): Reader =>
  ofText((text) => {
    const answering = ses.answers(make(text));
    return outcomeOf(() => answering.get('mail.acme.com'));
  });
const dkim = { Status: 'PENDING', Tokens: ['a', 'b', 'c'], SigningHostedZone: 'x.amazonses.com' };

const readers: Record<string, Reader> = {
  belongsTo: ofText((text) => belongsTo({ domainId: text }, text)),
  isKnownSesError: ofText(isKnownSesError),
  listedStatusOf: ofText((text) => listedStatusOf(text, text)),
  sesFault: ofText((text) => sesFault(text, 400, 'GetEmailIdentity')),
  'get, of an identity': ofAnswer((text) => ({
    $metadata,
    DkimAttributes: dkim,
    Tags: [{ Key: text, Value: text }],
    MailFromAttributes: { MailFromDomain: text, MailFromDomainStatus: text },
    VerificationInfo: { ErrorType: text },
  })),
  'get, of a token': ofAnswer((text) => ({ $metadata, DkimAttributes: { ...dkim, Tokens: [text, text, text] } })),
  'get, of a zone': ofAnswer((text) => ({ $metadata, DkimAttributes: { ...dkim, SigningHostedZone: text } })),
  'get, of an error': ofAnswer((text) =>
    Object.assign(new Error(text), { name: text, $metadata: { httpStatusCode: 400, requestId: text } }),
  ),
  list: ofText((text) => {
    const EmailIdentities = [{ IdentityName: text, VerificationStatus: 'PENDING' }];
    const listing = ses.answers({ $metadata, EmailIdentities }).list();
    return outcomeOf(() => listing.next());
  }),
};

describe('what SES says is read in time linear in its length', () => {
  it('by every function that there is', () =>
    expect(
      Object.keys(readers)
        .filter((name) => !/^(get, |list$)/.test(name))
        .sort(),
      // Turns are given by numbers, without any text.
    ).toEqual(functionsIn(__dirname, (file) => file !== 'turns.ts')));

  itIsLinear(readers, 17, 20);
});
