import { answersOf, type Said } from '../../test/support/answers';
import { Answers, type Answer } from './answers';
import type { DkimAnswer, SesExplanation } from './check';
import { explain, retryAllAfter } from './explain';
import { judge } from './judge';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const both = <Rr>(...records: Rr[]): Answer<Rr>[] => {
  const answer: Answer<Rr> = { kind: 'records', records, aliases: [], evidence: { ttl: 300 } };
  return [answer, answer];
};
const good = {
  mx: both({ preference: 10, exchange: 'mail.sendmux.ai' }),
  spf: both('v=spf1 include:amazonses.com include:sendmux.ai ~all'),
  dmarc: both('v=DMARC1; p=quarantine'),
  verification: both('sendmux-verify=team_abc123'),
};
const ses: SesExplanation = {
  errorType: null,
  lastCheckedAt: new Date('2026-04-15T11:00:00Z'),
  deadline: new Date('2026-04-18T10:00:00Z'),
  isRestarted: false,
};
const explained = (changed: Said, dkim: DkimAnswer = 'success', said: SesExplanation | null = ses) => {
  const answers = answersOf(domain, changed);
  return explain(domain, { assessment: judge(domain, answers, dkim), answers, clues: new Answers(), ses: said });
};
const dkim = (answer: DkimAnswer, changed: Partial<SesExplanation> = {}) =>
  explained({}, answer, { ...ses, ...changed })[4]!;

describe('F DKIM, explained by SES alone', () => {
  it('F1 says when SES last looked, and until when it goes on', () => {
    const { code, outcome, message, severity } = dkim('pending');
    expect({ code, outcome, severity }).toEqual({ code: 'dkim_pending', outcome: 'fail', severity: 'blocking' });
    expect(message).toContain('last looked at 2026-04-15T11:00:00Z');
    expect(message).toContain('until 2026-04-18T10:00:00Z');
  });
  it.each([
    ['F10', 'host_not_found', 'dkim_pending', 'does not find all three DKIM records'],
    ['F12', 'invalid_value', 'dkim_wrong_target', 'with another target than its own'],
    ['F', 'type_not_found', 'dkim_pending', 'something else than a CNAME'],
    ['F', 'dns_server_error', 'dkim_pending', 'name servers of the domain answer Amazon SES with an error'],
    ['F', 'service_error', 'dkim_pending', 'has not seen the DKIM records yet'],
  ])('%s %s', (_id, errorType, code, message) => {
    const { code: said, message: text } = dkim('pending', { errorType });
    expect(said).toBe(code);
    expect(text).toContain(message);
  });
  it('F5 says that SES begins anew, when it does', () => {
    expect(dkim('failed', { isRestarted: true })).toMatchObject({ code: 'dkim_restarted', outcome: 'fail' });
    expect(dkim('failed')).toMatchObject({ code: 'dkim_failed' });
  });
  it('names all three records to place, without a look-up', () =>
    expect(dkim('pending').fix.map(({ action, name, values }) => [action, name, ...values].join(' '))).toEqual(
      [1, 2, 3].map((n) => `create token${n}._domainkey.mail.acme.com token${n}.dkim.amazonses.com`),
    ));
  it('F7 F8 F9 gives nothing to place where the fault is not the customer’s', () => {
    for (const answer of ['not_started', 'unavailable', 'identity_missing'] as const)
      expect(explained({}, answer, null)[4]).toMatchObject({ fix: [], retryAfter: 300 });
  });
});

describe('an explanation', () => {
  const of = (check: string, changed: Said) => explained(changed).find((detail) => detail.check === check)!;
  const servfail: Answer<never> = { kind: 'servfail' };
  const nxdomain: Answer<never> = { kind: 'nxdomain', aliases: [], evidence: { ttl: 900 } };

  it('G1 B18 what a CNAME leads to is nobody’s misplaced record', () => {
    const via = (...records: string[]): Answer<string>[] => [{ kind: 'records', records, aliases: ['x.other.net'] }];
    const stolen = via('sendmux-verify=team_abc123', 'v=DMARC1; p=reject');
    const all = explained({ verification: stolen, spf: stolen, dmarc: [nxdomain] });
    expect(all.slice(0, 5).map(({ code }) => code)).toEqual([
      'ok',
      'verification_via_cname',
      'cname_at_name',
      'dmarc_missing',
      'ok',
    ]);
  });
  it('B8 a mistake in the record itself is said before where else there is one', () => {
    const { code } = of('verification_txt', {
      verification: both('sendmux-verify=TEAM_ABC123'),
      spf: both('v=spf1 include:amazonses.com include:sendmux.ai ~all', 'sendmux-verify=team_abc123'),
    });
    expect(code).toBe('txt_case');
  });
  it('of all that is well has nothing to do', () => {
    for (const detail of explained({}))
      expect(detail).toMatchObject({ severity: 'info', hint: null, fix: [], warnings: [], retryAfter: null });
    expect(retryAllAfter(explained({}))).toBeNull();
  });
  it.each([
    ['E17', 'dmarc', { dmarc: both('v=DMARC1; p=quarantine; t=y') }, 'dmarc_testing_mode', 'breaking'],
    ['E16', 'dmarc', { dmarc: both('v=DMARC1; p=quarantine; pct=50') }, 'dmarc_pct_partial', 'warning'],
    ['E18', 'dmarc', { dmarc: both('v=DMARC1; p=quarantine; sp=none') }, 'dmarc_subdomains_free', 'info'],
    [
      'C10',
      'mx',
      {
        mx: both(...good.mx.flatMap((a) => (a.kind === 'records' ? a.records : [])), {
          preference: 20,
          exchange: 'b.net',
        }),
      },
      'mx_foreign_backup',
      'warning',
    ],
    ['D5', 'spf', { spf: both('v=spf1 include:amazonses.com include:sendmux.ai') }, 'spf_permissive_all', 'warning'],
  ] as const)('%s a warning of %s is told, and changes no verdict', (_id, check, changed, code, severity) => {
    const detail = of(check, changed);
    expect(detail).toMatchObject({ outcome: 'pass', code, severity, warnings: [{ code, severity }], fix: [] });
  });
  it('of what cannot be seen asks for nothing to be placed', () => {
    expect(of('mx', { mx: [servfail, servfail] })).toMatchObject({ code: 'dns_servfail', fix: [], retryAfter: 60 });
    expect(of('mx', { mx: [servfail, servfail] }).hint).toContain('No record can be seen until this is mended');
  });
  it('B24 of resolvers that disagree says that it propagates', () => {
    const detail = of('verification_txt', { verification: [nxdomain, ...good.verification.slice(1)] });
    expect(detail).toMatchObject({ outcome: 'indeterminate', code: 'resolver_disagreement', severity: 'warning' });
    expect(detail).toMatchObject({ fix: [], ttl: 900, retryAfter: 900 });
  });
  it('says when all can be well at the earliest: when the last old answer is gone', () => {
    const all = explained({ mx: [nxdomain, nxdomain], dmarc: [{ ...nxdomain, evidence: { ttl: 5 } }] });
    expect(all.slice(0, 5).map(({ retryAfter }) => retryAfter)).toEqual([900, null, null, 10, null]);
    expect(retryAllAfter(all)).toBe(900);
  });
  it('shows what each resolver said', () => {
    const { resolvers } = of('mx', { mx: [nxdomain, { kind: 'unreachable', reason: 'timed out' }] });
    expect(resolvers).toEqual([
      { answer: 'nxdomain', aliases: [], ttl: 900 },
      { answer: 'unreachable', aliases: [], reason: 'timed out' },
    ]);
  });
});
