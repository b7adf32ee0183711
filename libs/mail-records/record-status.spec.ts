import type { Expected } from './check';
import type { Finding } from './findings';
import { answersInPlace } from './in-place';
import { judge } from './judge';
import { dnsRecords, recordSets } from './records';
import { recordsWithStatus, seenFinding, seenLimits } from './record-status';

const domain: Expected = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const inPlace = judge(domain, answersInPlace(domain), 'success').findings;
const statuses = (findings: readonly Finding[], of = domain) =>
  recordsWithStatus(of, findings.map(seenFinding)).map(({ purpose, status }) => `${purpose} ${status}`);
/** The findings of a look at which all is in place, but one. */
const but = (changed: Partial<Finding> & Pick<Finding, 'check'>): Finding[] =>
  inPlace.map((each) => (each.check === changed.check ? { ...each, ...changed } : each));
const mx = (changed: Partial<Finding>) => statuses(but({ check: 'mx', ...changed })).find((each) => /^mx /.test(each));

describe('the status of each record', () => {
  it('is not_checked before the first look, verified when all is in place, one for each record to place', () => {
    const values = recordSets(domain).flatMap((each) =>
      each.values.map((value) => `${each.type} ${each.name} ${value}`),
    );
    const records = recordsWithStatus(domain, []);
    expect(records.map(({ type, name, value }) => `${type} ${name} ${value}`)).toEqual(values);
    expect(new Set(records.map(({ status, code }) => `${status} ${code}`))).toEqual(new Set(['not_checked null']));
    expect(new Set(statuses(inPlace).map((each) => each.split(' ')[1]))).toEqual(new Set(['verified']));
    expect(records.find(({ purpose }) => purpose === 'verification_txt')).toMatchObject({
      host: '_sendmux.mail',
      ttl: 300,
    });
  });
  it.each([
    ['missing', { outcome: 'fail', code: 'mx_missing', observed: [] }],
    ['wrong', { outcome: 'fail', code: 'mx_wrong_target', observed: ['1 aspmx.l.google.com'] }],
    // Other TXT records may stand there.
    ['missing', { outcome: 'fail', code: 'mx_missing', observed: ['something'] }],
    // Something else has to go first.
    ['wrong', { outcome: 'fail', code: 'cname_at_name', observed: [] }],
    ['wrong', { outcome: 'fail', code: 'cname_loop', observed: [] }],
    ['wrong', { outcome: 'fail', code: 'dname_above', observed: [] }],
    ['propagating', { outcome: 'indeterminate', code: 'resolver_disagreement', observed: [] }],
    ['not_checked', { outcome: 'indeterminate', code: 'resolver_unreachable', observed: [] }],
    // Nobody can see the record, whatever it says.
    ['not_checked', { outcome: 'fail', code: 'dns_servfail', observed: [] }],
    ['not_checked', { outcome: 'fail', code: 'dnssec_bogus', observed: [] }],
    ['verified', { outcome: 'pass', code: 'mx_foreign_backup', observed: ['10 mail.sendmux.ai', '20 mx.acme.com'] }],
  ] as const)('is %s by %j', (status, finding) => expect(mx(finding)).toBe(`mx ${status}`));

  it('of DKIM is what Amazon SES says, and not_checked where the fault is ours', () => {
    const of = (dkim: Parameters<typeof judge>[2]) =>
      new Set(statuses(judge(domain, answersInPlace(domain), dkim).findings).filter((each) => /^dkim /.test(each)));
    expect(of('success')).toEqual(new Set(['dkim verified']));
    expect(of('pending')).toEqual(new Set(['dkim missing']));
    expect(of('not_started')).toEqual(new Set(['dkim not_checked']));
    expect(of('unavailable')).toEqual(new Set(['dkim not_checked']));
  });
  it('says nothing of records that the domain wants since the look', () => {
    expect(statuses(inPlace, { ...domain, dkimTokens: ['a', 'x', 'y'] }).filter((each) => /^dkim /.test(each))).toEqual(
      ['dkim verified', 'dkim not_checked', 'dkim not_checked'],
    );
    const sendOnly = { ...domain, mode: 'send_only' } as const;
    const before = judge(sendOnly, answersInPlace(sendOnly), 'success').findings;
    expect(statuses(before).filter((each) => /not_checked/.test(each))).toEqual(['mx not_checked']);
    expect(statuses(inPlace, sendOnly)).not.toContain('mx verified');
  });
  it('keeps a part of what was seen, however much that was', () => {
    const much = Array.from({ length: 99 }, (_, i) => `${i} ${'x'.repeat(9_999)}`);
    const { observed } = seenFinding({ ...inPlace[0]!, observed: much });
    expect(observed).toEqual(much.slice(0, seenLimits.values).map((each) => each.slice(0, seenLimits.characters)));
  });
});

it('asks for the records of a second identity too, and says of them only that no look has asked', () => {
  const both = { ...domain, nextDkim: { dkimTokens: ['k', 'l', 'm'], dkimZone: 'dkim.amazonses.com' } };
  const { findings } = judge(both, answersInPlace(domain), 'success');
  expect(findings).toEqual(judge(domain, answersInPlace(domain), 'success').findings);
  const ofDkim = recordsWithStatus(both, findings).filter(({ purpose }) => purpose === 'dkim');
  expect(ofDkim.map(({ name, status }) => [name.split('.')[0], status])).toEqual([
    ...['a', 'b', 'c'].map((token) => [token, 'verified']),
    ...['k', 'l', 'm'].map((token) => [token, 'not_checked']),
  ]);
  expect(dnsRecords(both).dkim).toEqual([
    ...dnsRecords(domain).dkim,
    ...['k', 'l', 'm'].map((token) => ({
      name: `${token}._domainkey.mail.acme.com`,
      value: `${token}.dkim.amazonses.com`,
      host: `${token}._domainkey.mail`,
    })),
  ]);
});
