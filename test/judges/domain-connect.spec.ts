import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { SigningKey, template } from '@app/domain-connect';
import { dnsPlan, type Expected } from '@app/mail-records';
import { PublishedRecords, Verifier } from '@app/verification';
import { applyUrl } from '../../libs/domain-connect/apply-url';
import { groupsOf, variablesOf } from '../../libs/domain-connect/template';
import { ZoneModel } from '../support/zone-model';
import { anyOf, ask, casesOf, describeJudged, expectOnlyMeant } from '../support/judges';

/** A record as the library has it. */
interface Row {
  readonly type: 'MX' | 'TXT' | 'CNAME' | 'A';
  /** Relative to the zone; `@` at its top. */
  readonly name: string;
  readonly data: string;
  readonly priority?: number;
}

const zone = 'acme.com';
const file = resolve(__dirname, '../../docs/domain-connect/sendmux.ai.mail.json');
const directory = mkdtempSync(join(tmpdir(), 'sendmux-connect-'));
const keyFile = join(directory, 'key.pem');
const { key } = SigningKey.open(keyFile);
afterAll(() => rmSync(directory, { recursive: true }));

const token = fc.stringMatching(/^[a-z0-9]{32}$/);
const domains: fc.Arbitrary<Expected> = fc.record({
  name: fc.constantFrom(zone, `mail.${zone}`, `a.b.${zone}`),
  mode: fc.constantFrom('send_receive', 'send_only'),
  team: fc.stringMatching(/^team_[a-z0-9]{10}$/),
  dkimTokens: fc.uniqueArray(token, { minLength: 3, maxLength: 3 }),
  dkimZone: fc.constantFrom('dkim.amazonses.com', 'dkim.eu-west-1.amazonses.com'),
  sesRegion: fc.constantFrom('eu-west-1', 'us-east-1'),
});
const some = <Value>(arbitrary: fc.Arbitrary<Value>) => fc.option(arbitrary, { nil: undefined });
/** What the domain and its zone have already. Neither SPF record has ours whole: the library breaks on that. */
const there = fc.record({
  spf: some(
    anyOf(
      'v=spf1␠include:_spf.google.com␠~all v=spf1␠-all v=spf1␠mx␠include:amazonses.com␠-all v=spf1␠ip4:192.0.2.1␠?all',
    ),
  ),
  dmarc: some(
    anyOf(
      'v=DMARC1;p=none v=DMARC1;␠p=none;␠rua=mailto:a@x.net v=DMARC1;␠p=reject;␠rua=mailto:a@x.net,mailto:b@y.net v=DMARC1;␠p=quarantine;␠pct=100',
    ),
  ),
  mx: some(anyOf('aspmx.l.google.com mx.x.net')),
  other: some(anyOf('google-site-verification=x other')),
  ownership: some(anyOf('sendmux-verify=team_other')),
  bounce: some(anyOf('v=spf1␠include:x.net␠~all')),
  dkim: fc.boolean(),
});
type There = typeof there extends fc.Arbitrary<infer Of> ? Of : never;

function rowsOf({ name, dkimTokens }: Expected, { spf, dmarc, mx, other, ownership, bounce, dkim }: There): Row[] {
  const at = (label: string): string =>
    [label, ...name.slice(0, -zone.length).split('.')].filter(Boolean).join('.') || '@';
  const text = (label: string, data: string | undefined): Row[] =>
    data === undefined ? [] : [{ type: 'TXT', name: at(label), data }];
  return [
    { type: 'A', name: 'www', data: '192.0.2.1' },
    ...text('', spf),
    ...text('', other),
    ...text('_dmarc', dmarc),
    ...text('_sendmux', ownership),
    ...text('bounce', bounce),
    ...(mx === undefined ? [] : [{ type: 'MX', name: at(''), data: mx, priority: 5 } as const]),
    ...(dkim ? [{ type: 'CNAME', name: at(`${dkimTokens[0]}._domainkey`), data: 'old.example.net' } as const] : []),
  ];
}

/** The zone as resolvers see it, with the records of others that SPF leads to. */
function modelOf(rows: readonly Row[]): ZoneModel {
  const others = ['_spf.google.com', 'x.net', 'amazonses.com', 'sendmux.ai'];
  const data: Record<string, Record<string, string[]>> = {};
  for (const other of others) data[other] = { TXT: ['v=spf1 ip4:192.0.2.9 -all'] };
  for (const { type, name, data: value, priority } of rows) {
    const whole = name === '@' ? zone : `${name}.${zone}`;
    ((data[whole] ??= {})[type] ??= []).push(type === 'MX' ? `${priority} ${value}` : value);
  }
  return new ZoneModel(data);
}

const verdictOn = async (domain: Expected, model: ZoneModel) => {
  const identity = { status: 'success', tokens: domain.dkimTokens, verification: {} } as never;
  const verifier = new Verifier([model.resolver, model.resolver], { get: () => Promise.resolve(identity) }, [
    'mail_from',
  ]);
  const { assessment } = await verifier.look(domain);
  return assessment.findings.filter(({ outcome }) => outcome !== 'pass').map(({ check, code }) => `${check} ${code}`);
};

/** The link that the setup page would have, made as it is there. */
async function linkOf(domain: Expected, model: ZoneModel): Promise<string> {
  const published = await new PublishedRecords([model.resolver, model.resolver]).of(domain);
  const wanted = dnsPlan(domain, published).find(
    ({ action, name }) => action !== 'delete' && name === `_dmarc.${domain.name}`,
  );
  const variables = variablesOf(domain, wanted!.values[0]!)!;
  const application = {
    zone,
    domain: domain.name,
    variables,
    groups: groupsOf(domain),
    returnTo: 'https://app.example/x?y=z',
  };
  return applyUrl('https://dns.example/connect', application, key, '_dck1');
}

it('the template that is handed to providers is that of the code', () =>
  expect(template).toEqual(jest.requireActual(file)));

describeJudged('Domain Connect, applied by domainconnectzone', () => {
  it('makes a domain verify, whatever its zone has already, and leaves the rest alone', async () => {
    const cases = await Promise.all(
      casesOf(fc.tuple(domains, there), 400).map(async ([domain, had]) => {
        const rows = rowsOf(domain, had);
        return { domain, had, rows, url: await linkOf(domain, modelOf(rows)) };
      }),
    );
    const said = ask<{ signed: boolean; zone: Row[] }>(
      'domain_connect.py',
      cases.map(({ rows, url }) => ({ template: file, keys: key.records(), url, zone: rows })),
    );
    const judged = await Promise.all(
      cases.map(async (each, i) => {
        const { signed, zone: after } = said[i]!;
        const left = (rows: readonly Row[]) =>
          rows.filter(({ name, data }) => name === 'www' || /^(other|google)/.test(data)).map(({ data }) => data);
        const dmarc = after.filter(({ name, data }) => name.startsWith('_dmarc') && data.startsWith('v=DMARC1'));
        const kept = each.had.dmarc?.includes('p=reject') ? /p=reject.*rua=mailto:a@x\.net,mailto:b@y\.net/ : /p=/;
        const receives = after.some(({ type, data }) => type === 'MX' && data === 'mail.sendmux.ai');
        return {
          ...each,
          faults: [
            ...(signed ? [] : ['the signature']),
            ...(await verdictOn(each.domain, modelOf(after))),
            ...(left(after).join() === left(each.rows).join() ? [] : ['what is left']),
            ...(dmarc.length === 1 && kept.test(dmarc[0]!.data) ? [] : ['DMARC']),
            ...(receives === (each.domain.mode !== 'send_only') ? [] : ['MX']),
          ],
        };
      }),
    );
    expectOnlyMeant(
      'Domain Connect, domainconnectzone',
      judged.length,
      judged.filter(({ faults }) => faults.length > 0),
    );
  });

  it('is not signed any more once a letter of the link is another', async () => {
    const [[domain, had]] = casesOf(fc.tuple(domains, there), 1) as [[Expected, There]];
    const rows = rowsOf(domain, had);
    const url = await linkOf(domain, modelOf(rows));
    const other = url.replace('team=team_', 'team=team-');
    const [first, second] = ask<{ signed: boolean }>(
      'domain_connect.py',
      [url, other].map((one) => ({ template: file, keys: key.records(), url: one, zone: rows })),
    );
    expect([first!.signed, second!.signed]).toEqual([true, false]);
  });
});

const openssl = spawnSync('openssl', ['version']).status === 0;
(openssl ? it : it.skip)(
  'the signature of a link is one for OpenSSL, by the key that the TXT records carry',
  async () => {
    const [domain] = casesOf(domains, 1) as [Expected];
    const query = new URL(await linkOf(domain, modelOf([]))).search.slice(1);
    const [signed, rest] = query.split('&sig=') as [string, string];
    const signature = Buffer.from(decodeURIComponent(rest.split('&', 1)[0]!), 'base64');
    const parts = key.records().map((text) => /^p=\d+,a=RS256,d=(.*)$/.exec(text)![1]!);
    const paths = { data: join(directory, 'query'), sig: join(directory, 'sig'), key: join(directory, 'public.pem') };
    writeFileSync(paths.data, signed);
    writeFileSync(paths.sig, signature);
    writeFileSync(
      paths.key,
      `-----BEGIN PUBLIC KEY-----\n${parts
        .join('')
        .match(/.{1,64}/g)!
        .join('\n')}\n-----END PUBLIC KEY-----\n`,
    );
    const verify = () =>
      spawnSync('openssl', ['dgst', '-sha256', '-verify', paths.key, '-signature', paths.sig, paths.data], {
        encoding: 'utf8',
      });
    expect(verify()).toMatchObject({ status: 0, stdout: 'Verified OK\n' });
    writeFileSync(paths.data, `${signed}x`);
    expect(verify().status).not.toBe(0);
  },
);
