import { allPass, answersInPlace, isUndecided, questionsOf } from '@app/mail-records';
import { Verifier } from './verifier';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const inPlace = answersInPlace(domain, 1);
const asked: string[] = [];
const well = {
  mx: (name: string) => {
    asked.push(`MX ${name}`);
    return Promise.resolve(inPlace.at('MX', name)![0]!);
  },
  txt: (name: string) => {
    asked.push(`TXT ${name}`);
    return Promise.resolve(inPlace.at('TXT', name)![0]!);
  },
  cname: () => Promise.resolve({ kind: 'nodata' as const, aliases: [] }),
};
const outage = { kind: 'unreachable' as const, reason: 'timed out' };
const silent = () => Promise.resolve(outage);
const down = { mx: silent, txt: silent, cname: silent };
const identity = { status: 'success', tokens: ['c', 'a', 'b'] } as never;
const ses = { get: () => Promise.resolve(identity) };

describe('the verifier', () => {
  it('asks each resolver the questions of all checks, and SES one', async () => {
    asked.length = 0;
    const assessment = await new Verifier([well, well], ses).check(domain);
    expect(allPass(assessment.findings)).toBe(true);
    const questions = questionsOf(domain).map(({ type, name }) => `${type} ${name}`);
    expect(asked.sort()).toEqual(questions.flatMap((question) => [question, question]).sort());
    expect(questions).toContain('TXT _dmarc.mail.acme.com');
  });
  it('one resolver is enough when the other is down', async () =>
    expect(allPass((await new Verifier([down, well], ses).check(domain)).findings)).toBe(true));
  it('an outage of all resolvers decides nothing', async () => {
    const assessment = await new Verifier([down, down], ses).check(domain);
    expect(isUndecided(assessment)).toBe(true);
    expect(assessment.findings.filter(({ outcome }) => outcome === 'fail')).toEqual([]);
  });
  it('F8 an outage of SES decides nothing', async () => {
    const broken = { get: () => Promise.reject(new Error('503')) };
    expect(isUndecided(await new Verifier([well], broken).check(domain))).toBe(true);
  });
  it('F8 in an outage of SES the list of all identities says that a domain is verified, and nothing else', async () => {
    const broken = { get: () => Promise.reject(new Error('503')) };
    const listedAt = new Date();
    const by = (verifiedSince: () => Promise<Date | null>) => new Verifier([well], broken, [], { verifiedSince });
    const look = await by(() => Promise.resolve(listedAt)).look(domain);
    expect(look).toMatchObject({ dkim: 'success', identity: null, listedAt });
    expect(allPass(look.assessment.findings)).toBe(true);
    for (const nothing of [() => Promise.resolve(null), () => Promise.reject(new Error('the database is away'))])
      expect(isUndecided(await by(nothing).check(domain))).toBe(true);
  });
  it('F9 a missing identity is a fault of ours and not of the customer’s records', async () => {
    const none = { get: jest.fn(() => Promise.resolve(null)) };
    expect((await new Verifier([well], none).check(domain)).findings[4]).toMatchObject({
      code: 'ses_identity_missing',
    });
    expect(none.get).toHaveBeenCalledWith(domain.name, expect.objectContaining({ priority: 'check' }), undefined);
  });
  it('F9 an identity with other tokens is not the domain’s', async () => {
    const other = { get: () => Promise.resolve({ status: 'success', tokens: ['x', 'y', 'z'] } as never) };
    expect((await new Verifier([well], other).check(domain)).findings[4]).toMatchObject({
      code: 'ses_identity_missing',
    });
  });
  it('tells what SES says of the MAIL FROM domain, where it has one', async () => {
    const of = async (mailFrom: unknown) => {
      const asked = { get: () => Promise.resolve({ status: 'success', tokens: ['c', 'a', 'b'], mailFrom } as never) };
      return (await new Verifier([well], asked).check(domain)).sesMailFromStatus;
    };
    expect(await of({ domain: 'bounce.mail.acme.com', status: 'failed' })).toBe('failed');
    expect(await of(null)).toBeUndefined();
    expect(await new Verifier([well], ses).check(domain, 'success')).not.toHaveProperty('sesMailFromStatus');
  });
  it('tells what SES says of the identity, where it says all of it', async () => {
    const standing = { verificationStatus: 'success', verifiedForSending: true, dkimSigningEnabled: true };
    const of = async (answer: object) => {
      const asked = { get: () => Promise.resolve({ status: 'success', tokens: ['c', 'a', 'b'], ...answer } as never) };
      return (await new Verifier([well], asked).check(domain)).sesIdentity;
    };
    expect(await of({ standing })).toEqual(standing);
    expect(await of({ standing: null })).toBeUndefined();
  });
  it('asks for no MX of a domain that only sends', async () => {
    asked.length = 0;
    const sendOnly = { ...domain, mode: 'send_only' } as const;
    const { findings } = await new Verifier([well], ses).check(sendOnly);
    expect(findings.map(({ check }) => check)).not.toContain('mx');
    expect(allPass(findings)).toBe(true);
    expect(asked.filter((question) => question.endsWith(' mail.acme.com'))).toEqual(['TXT mail.acme.com']);
  });
  it('does not ask SES when the caller knows', async () => {
    const never = { get: () => Promise.reject(new Error('asked')) };
    expect(allPass((await new Verifier([well], never).check(domain, 'success')).findings)).toBe(true);
  });

  describe('an SPF record that has our includes by way of another record', () => {
    const own = 'v=spf1 include:amazonses.com include:sendmux.ai ~all';
    const resolver = (texts: Record<string, string>, silent: readonly string[] = []) => ({
      ...well,
      txt: (name: string) => {
        asked.push(name);
        if (silent.includes(name)) return Promise.resolve(outage);
        const text = texts[name];
        const nothing = { kind: 'nxdomain' as const, aliases: [] };
        return Promise.resolve(
          text === undefined
            ? (inPlace.at('TXT', name)?.[0] ?? nothing)
            : { kind: 'records' as const, records: [text], aliases: [] },
        );
      },
    });
    const spfOf = async (...resolvers: ReturnType<typeof resolver>[]) =>
      (await new Verifier(resolvers, ses).check(domain)).findings[2];

    it('D26 D27 is followed to that record', async () => {
      const texts = { 'mail.acme.com': 'v=spf1 redirect=a.net', 'a.net': 'v=spf1 include:b.net -all', 'b.net': own };
      expect(await spfOf(resolver(texts), resolver(texts))).toMatchObject({
        outcome: 'pass',
        code: 'spf_via_redirect',
      });
    });
    it('is not followed further than needed', async () => {
      asked.length = 0;
      await spfOf(resolver({ 'mail.acme.com': 'v=spf1 include:a.net include:b.net', 'a.net': own }));
      expect(asked).not.toContain('b.net');
    });
    it('decides nothing when the other cannot be looked up', async () => {
      const texts = { 'mail.acme.com': 'v=spf1 redirect=a.net' };
      expect(await spfOf(resolver(texts, ['a.net']), resolver(texts, ['a.net']))).toMatchObject({
        outcome: 'indeterminate',
        code: 'resolver_unreachable',
      });
    });
  });
});
