import { allPass, isUndecided } from '@app/mail-domain';
import { Verifier } from './verifier';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
};
const values: Record<string, string> = {
  'mail.acme.com': 'v=spf1 include:amazonses.com include:sendmux.ai ~all',
  '_dmarc.mail.acme.com': 'v=DMARC1; p=quarantine',
  '_sendmux.mail.acme.com': 'sendmux-verify=team_abc123',
};
const asked: string[] = [];
const well = {
  mx: (name: string) => {
    asked.push(`MX ${name}`);
    return Promise.resolve({
      kind: 'records' as const,
      records: [{ preference: 10, exchange: 'mail.sendmux.ai' }],
      aliases: [],
    });
  },
  txt: (name: string) => {
    asked.push(`TXT ${name}`);
    return Promise.resolve({ kind: 'records' as const, records: [values[name]!], aliases: [] });
  },
};
const outage = { kind: 'unreachable' as const, reason: 'timed out' };
const down = { mx: () => Promise.resolve(outage), txt: () => Promise.resolve(outage) };
const identity = { status: 'success' } as never;
const ses = { get: () => Promise.resolve(identity) };

describe('the verifier', () => {
  it('asks each resolver four questions, and SES one', async () => {
    asked.length = 0;
    const assessment = await new Verifier([well, well], ses).check(domain);
    expect(allPass(assessment.findings)).toBe(true);
    expect(asked.sort()).toEqual(
      ['MX mail.acme.com', 'TXT _dmarc.mail.acme.com', 'TXT _sendmux.mail.acme.com', 'TXT mail.acme.com'].flatMap(
        (q) => [q, q],
      ),
    );
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
  it('F9 a missing identity is ours to mend', async () => {
    const none = { get: () => Promise.resolve(null) };
    expect((await new Verifier([well], none).check(domain)).findings[4]).toMatchObject({
      code: 'ses_identity_missing',
    });
  });
  it('does not ask SES when the caller knows', async () => {
    const never = { get: () => Promise.reject(new Error('asked')) };
    expect(allPass((await new Verifier([well], never).check(domain, 'success')).findings)).toBe(true);
  });
});
