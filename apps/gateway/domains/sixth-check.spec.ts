/** Adds a made-up check as one object to the list, and tests that all that customers see includes it. */
import { sentenceOf } from '@app/mail-domain';
import {
  allPass,
  answersInPlace,
  Answers,
  checks,
  dnsPlan,
  dnsRecords,
  explain,
  isBroken,
  judge,
  namesToRead,
  publishedIn,
  zoneFile,
  zoneFileFormats,
  type Check,
  type Expected,
} from '@app/mail-records';
import { presentDeletion, presentDomain } from '@app/presentation';
import { Explainer, Verifier } from '@app/verification';
import { dnsRecordsSchema } from './dns-records.schema';
import { checksSchema, presentVerification } from './verification.dto';

const nameOf = (domain: string) => `_tls.${domain}`;
const value = 'v=TLSRPTv1; rua=mailto:tls@sendmux.ai';
const reportHost = 'reports.sendmux.ai';

/** Requires a TLS reporting record (RFC 8460) with reports to Sendmux, where an operator says so. */
const tls: Check = {
  name: 'tls_rpt',
  field: 'reports.tls',
  title: 'TLS-RPT',
  label: 'the TLS-RPT record',
  authority: 'dns',
  requirement: 'mail_from',
  faults: { tls_missing: 'missing' },
  records: ({ name }) => [{ name: nameOf(name), type: 'TXT', values: [value] }],
  entry: ({ name }) => ({ name: nameOf(name), value, host: '_tls.mail' }),
  questions: ({ name }) => [{ type: 'TXT', name: nameOf(name) }],
  followUp: (_domain, answers) => (answers.at('TXT', reportHost) ? undefined : { type: 'TXT', name: reportHost }),
  judge: ({ name }, answers) => {
    const isThere = answers.at('TXT', nameOf(name))?.every((each) => each.kind === 'records');
    const said = isThere
      ? { outcome: 'pass' as const, code: 'ok', message: 'The record is in place.' }
      : { outcome: 'fail' as const, code: 'tls_missing', message: 'There is no TLS-RPT record.' };
    return { check: 'tls_rpt', type: 'TXT', name: nameOf(name), expected: value, observed: [], ...said };
  },
  clues: ({ name }, { outcome }) => (outcome === 'fail' ? [{ type: 'TXT', name: `_tls.clue.${name}` }] : []),
  refine: ({ name }, _finding, { clues }) =>
    clues.at('TXT', `_tls.clue.${name}`)
      ? { code: 'tls_elsewhere', message: 'The TLS-RPT record is elsewhere.' }
      : undefined,
  warnings: () => [{ code: 'tls_warned', severity: 'warning', message: 'Reports are not read.' }],
  hints: () => ['Look at the TLS-RPT record.'],
  reads: ({ name }) => [{ name: nameOf(name) }],
  plan: ({ name }) => [
    {
      action: 'create',
      name: nameOf(name),
      type: 'TXT',
      values: [value],
      replaces: [],
      ttl: 300,
      reason: 'For TLS reports.',
    },
  ],
};

const domain: Expected = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const without = new Answers().set('TXT', '_tls.mail.acme.com', [{ kind: 'nxdomain', aliases: [] }]);
const missing = { check: 'tls_rpt', outcome: 'fail', code: 'tls_missing', name: '_tls.mail.acme.com' };
const list = checks as unknown as Check[];

beforeAll(() => list.push(tls));
afterAll(() => list.pop());

describe('one more check', () => {
  const look = () => answersInPlace(domain).with(without);

  it('has its finding in the verdict', () => {
    expect(judge(domain, answersInPlace(domain), 'success').findings).toHaveLength(list.length);
    expect(judge(domain, answersInPlace(domain), 'success').findings.at(-1)).toMatchObject({ outcome: 'pass' });
    expect(judge(domain, look(), 'success').findings.at(-1)).toMatchObject(missing);
  });
  it('decides nothing unless it is required', () => {
    const answers = look();
    const free = judge(domain, answers, 'success');
    expect(free.findings.at(-1)).toMatchObject({ outcome: 'fail', decides: false });
    expect([allPass(free.findings), isBroken(free.findings)]).toEqual([true, false]);
    const required = judge(domain, answers, 'success', ['mail_from']);
    expect(required.findings.at(-1)).not.toHaveProperty('decides');
    expect([allPass(required.findings), isBroken(required.findings)]).toEqual([false, true]);
    const explained = explain(domain, { assessment: required, answers, clues: new Answers(), ses: null });
    expect(explained.at(-1)).toMatchObject({ check: 'tls_rpt', severity: 'blocking' });
  });
  it('is in the OpenAPI document: the records of a domain, and the answer to a verification', () => {
    expect(dnsRecordsSchema().properties).toMatchObject({
      reports: {
        type: 'object',
        required: ['tls'],
        properties: {
          tls: {
            required: ['name', 'value', 'host'],
            properties: { value: { type: 'string', example: value } },
            description: expect.stringContaining('TXT') as string,
          },
        },
      },
    });
    expect(checksSchema()).toMatchObject({
      required: expect.arrayContaining(['tls_rpt']) as string[],
      properties: { mx: { type: 'boolean' }, tls_rpt: { type: 'boolean' } },
    });
  });
  it('is explained, with its hint and what to do', () => {
    const answers = look();
    const assessment = judge(domain, answers, 'success');
    const explained = explain(domain, { assessment, answers, clues: new Answers(), ses: null });
    expect(explained.at(-1)).toMatchObject({
      check: 'tls_rpt',
      severity: 'warning',
      hint: 'Look at the TLS-RPT record.',
      warnings: [{ code: 'tls_warned' }],
      fix: [{ action: 'create', name: '_tls.mail.acme.com', values: [value] }],
      resolvers: [{ answer: 'nxdomain' }],
    });
  });
  it('is in the plan', () => {
    expect(namesToRead(domain).map(({ name }) => name)).toContain('_tls.mail.acme.com');
    const published = publishedIn(namesToRead(domain), new Answers());
    expect(dnsPlan(domain, published)).toContainEqual(expect.objectContaining({ action: 'create', values: [value] }));
  });
  it.each(Object.keys(zoneFileFormats) as (keyof typeof zoneFileFormats)[])('is in the zone file %s', (format) =>
    expect(zoneFile(format, domain, 'acme.com')).toMatch(/_tls[^]*TLSRPTv1/),
  );
  it('is among the records of the API', () =>
    expect(dnsRecords(domain)).toMatchObject({
      reports: { tls: { name: '_tls.mail.acme.com', value, host: '_tls.mail' } },
    }));
  it('is queried by the verifier, including follow-up questions and those for the explanation', async () => {
    const asked: string[] = [];
    const answer = (question: string) => {
      asked.push(question);
      return Promise.resolve({ kind: 'nxdomain', aliases: [] } as const);
    };
    const resolver = {
      mx: (name: string) => answer(`MX ${name}`),
      txt: (name: string) => answer(`TXT ${name}`),
      cname: (name: string) => answer(`CNAME ${name}`),
    };
    const look = await new Verifier([resolver], { get: () => Promise.resolve(null) }).look(domain);
    expect(asked).toEqual(expect.arrayContaining(['TXT _tls.mail.acme.com', `TXT ${reportHost}`]));
    const explained = await new Explainer([resolver], ['one.example']).explain(domain, look, null);
    expect(asked).toContain('TXT _tls.clue.mail.acme.com');
    expect(explained.at(-1)).toMatchObject({ check: 'tls_rpt', code: 'tls_elsewhere' });
    const live = { name: domain.name, status: 'pending', sesDkimStatus: 'pending' } as const;
    const shown = presentVerification(live, look.assessment, explained, null, new Date(0));
    expect(shown.checks).toMatchObject({ mx: false, tls_rpt: false });
    expect(shown.details.at(-1)).toMatchObject({
      check: 'tls_rpt',
      code: 'tls_elsewhere',
      fix: [{ host: '_tls.mail' }],
    });
  });
  it('is in the answers of the API: the domain, and the records to remove after a deletion', () => {
    const view = {
      ...domain,
      id: 'mdom_1',
      status: 'pending' as const,
      mode: 'send_receive' as const,
      sesDkimStatus: 'pending' as const,
      sesMailFromStatus: null,
      sesIdentity: null,
      sesShard: 'default',
      nextDkim: null,
      lastLook: null,
      verifiedAt: null,
      checkedAt: null,
      outboundProvider: null,
      createdAt: new Date(0),
      receivingSince: null,
      mailboxCount: 0,
      version: 2,
    };
    const { dns_records, records } = presentDomain(view, { lastCheckedAt: null, nextCheckAt: null });
    expect(dns_records).toMatchObject({ reports: { tls: { value } } });
    expect(records).toContainEqual(expect.objectContaining({ purpose: 'tls_rpt', value, status: 'not_checked' }));
    expect(presentDeletion(view).records_to_remove).toContainEqual({ type: 'TXT', name: '_tls.mail.acme.com', value });
  });
  it('has a sentence in the history of a domain', () => {
    const { findings, sesDkimStatus } = judge(domain, look(), 'success');
    const event = {
      type: 'DnsChecked',
      domainId: 'mdom_1',
      at: '2026-04-15T10:00:00.000Z',
      data: { trigger: 'requested', cycle: null, findings, sesDkimStatus },
    } as const;
    expect(sentenceOf(event, { status: 'absent' })).toContain('found the TLS-RPT record missing');
  });
});
