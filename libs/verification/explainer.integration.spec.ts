import { DohClient } from '@app/dns';
import { type CheckName, failing, type Explained } from '@app/mail-records';
import { bindIsInstalled, startBind, type Bind } from '../../test/support/bind';
import { Explainer } from './explainer';
import { Verifier } from './verifier';

/** The right records of `mail.<row>.com`, by check, of the checks that rows are about. */
const right = {
  mx: 'mail MX 10 mail.sendmux.ai.',
  verification_txt: '_sendmux.mail TXT "sendmux-verify=team_abc123"',
  spf: 'mail TXT "v=spf1 include:amazonses.com include:sendmux.ai ~all"',
  dmarc: '_dmarc.mail TXT "v=DMARC1; p=quarantine"',
  mail_from_mx: 'bounce.mail MX 10 feedback-smtp.eu-west-1.amazonses.com.',
  mail_from_spf: 'bounce.mail TXT "v=spf1 include:amazonses.com ~all"',
} as const satisfies Partial<Record<CheckName, string>>;
type Check = keyof typeof right;

interface Row {
  readonly id: string;
  readonly state: string;
  readonly check: Check;
  /** Checks whose right records are left out. */
  readonly without?: readonly Check[];
  /** The records in their place, relative to the zone. */
  readonly lines?: readonly string[];
  readonly outcome: 'pass' | 'fail';
  readonly code: string;
  readonly message?: RegExp;
  /** The expected plan as `action name type values`, without the steps that keep a record. */
  readonly fix?: readonly string[];
}

const longSpf = (count: number) =>
  `mail TXT "v=spf1 include:amazonses.com include:sendmux.ai ${Array.from({ length: count }, (_, i) => `include:n${i}.d30.com`).join(' ')} ~all"`;
const token = '"sendmux-verify=team_abc123"';
const rows: Row[] = [
  {
    id: 'B14',
    state: 'the whole name was appended',
    check: 'verification_txt',
    without: ['verification_txt'],
    lines: [`_sendmux.mail.b14.com.mail TXT ${token}`],
    outcome: 'fail',
    code: 'name_auto_appended',
    message: /is at _sendmux\.mail\.b14\.com\.mail\.b14\.com: .*Enter _sendmux as its name/,
    fix: [
      'delete _sendmux.mail.b14.com.mail.b14.com TXT sendmux-verify=team_abc123',
      'create _sendmux.mail.b14.com TXT sendmux-verify=team_abc123',
    ],
  },
  {
    id: 'B15',
    state: 'the zone was appended',
    check: 'verification_txt',
    without: ['verification_txt'],
    lines: [`_sendmux.mail.b15.com TXT ${token}`],
    outcome: 'fail',
    code: 'name_auto_appended',
    message: /is at _sendmux\.mail\.b15\.com\.b15\.com: .*Enter _sendmux\.mail as its name/,
    fix: [
      'delete _sendmux.mail.b15.com.b15.com TXT sendmux-verify=team_abc123',
      'create _sendmux.mail.b15.com TXT sendmux-verify=team_abc123',
    ],
  },
  {
    id: 'B16',
    state: 'at the domain itself',
    check: 'verification_txt',
    without: ['verification_txt'],
    lines: [`mail TXT ${token}`],
    outcome: 'fail',
    code: 'record_on_wrong_name',
    message: /is at mail\.b16\.com\. Move it to _sendmux\.mail\.b16\.com/,
    fix: [
      'delete mail.b16.com TXT sendmux-verify=team_abc123',
      'create _sendmux.mail.b16.com TXT sendmux-verify=team_abc123',
    ],
  },
  {
    id: 'B17',
    state: 'below the parent',
    check: 'verification_txt',
    without: ['verification_txt'],
    lines: [`_sendmux TXT ${token}`],
    outcome: 'fail',
    code: 'record_on_parent',
    message: /is at _sendmux\.b17\.com, but you registered mail\.b17\.com/,
    // The record at the parent stays, since another domain of the customer may need it.
    fix: ['create _sendmux.mail.b17.com TXT sendmux-verify=team_abc123'],
  },
  {
    id: 'B19',
    state: 'a wildcard answers for any name',
    check: 'verification_txt',
    without: ['verification_txt'],
    lines: [`*.mail TXT ${token}`],
    outcome: 'pass',
    code: 'wildcard_txt',
    fix: [],
  },
  {
    id: 'B2',
    state: 'nothing anywhere',
    check: 'verification_txt',
    without: ['verification_txt'],
    outcome: 'fail',
    code: 'txt_missing',
    fix: ['create _sendmux.mail.b2.com TXT sendmux-verify=team_abc123'],
  },
  {
    id: 'G1',
    state: 'a wildcard CNAME to somebody who has all records',
    check: 'verification_txt',
    without: Object.keys(right) as Check[],
    lines: [
      '* CNAME old-saas.example-net.com.',
      ...Object.values(right).map((line) => line.replace(/^\S+/, 'bystander')),
    ],
    outcome: 'fail',
    code: 'verification_via_cname',
  },
  {
    id: 'C17',
    state: 'an alias of our host',
    check: 'mx',
    without: ['mx'],
    lines: ['mail MX 10 mx', 'mx CNAME mail.sendmux.ai.'],
    outcome: 'fail',
    code: 'mx_target_alias',
    message: /points to mx\.c17\.com, which is an alias \(CNAME\) of mail\.sendmux\.ai.*RFC 2181 section 10\.3/,
    fix: ['create mail.c17.com MX 10 mail.sendmux.ai', 'delete mail.c17.com MX 10 mx.c17.com'],
  },
  {
    id: 'C18',
    state: 'on the parent only',
    check: 'mx',
    without: ['mx'],
    lines: ['@ MX 10 mail.sendmux.ai.'],
    outcome: 'fail',
    code: 'record_on_parent',
    message: /is at c18\.com, but you registered mail\.c18\.com .* add the MX 10 mail\.sendmux\.ai at mail\.c18\.com/,
    fix: ['create mail.c18.com MX 10 mail.sendmux.ai'],
  },
  {
    id: 'C',
    state: 'the zone was appended',
    check: 'mx',
    without: ['mx'],
    lines: ['mail.c.com MX 10 mail.sendmux.ai.'],
    outcome: 'fail',
    code: 'name_auto_appended',
    message: /is at mail\.c\.com\.c\.com: .*Enter mail as its name/,
  },
  {
    id: 'C19',
    state: 'a CNAME at the name',
    check: 'mx',
    without: ['mx', 'spf'],
    lines: ['mail CNAME ghs.google-com.com.'],
    outcome: 'fail',
    code: 'cname_at_name',
    fix: ['delete mail.c19.com CNAME ghs.google-com.com', 'create mail.c19.com MX 10 mail.sendmux.ai'],
  },
  {
    id: 'C20',
    state: 'by a wildcard only',
    check: 'mx',
    without: Object.keys(right) as Check[],
    lines: ['* MX 10 mail.sendmux.ai.'],
    outcome: 'pass',
    code: 'wildcard_mx',
    fix: [],
    message: /the wildcard’s, \*\.c20\.com.*RFC 4592/,
  },
  {
    id: 'C20',
    state: 'its own, beside a wildcard',
    check: 'mx',
    lines: ['* MX 10 mail.sendmux.ai.'],
    outcome: 'pass',
    code: 'ok',
  },
  {
    id: 'C21',
    state: 'an MTA-STS policy',
    check: 'mx',
    lines: ['_mta-sts.mail TXT "v=STSv1; id=20260101"'],
    outcome: 'pass',
    code: 'mta_sts_present',
    message: /_mta-sts\.mail\.c21\.com announces .* mx: mail\.sendmux\.ai/,
  },
  {
    id: 'C22',
    state: 'a proxied host',
    check: 'mx',
    without: ['mx'],
    lines: ['mail MX 10 mx', 'mx A 192.0.2.1'],
    outcome: 'fail',
    code: 'mx_wrong_target',
  },
  {
    id: 'D30',
    state: 'more than ten look-ups',
    check: 'spf',
    without: ['spf'],
    lines: [longSpf(9), ...Array.from({ length: 9 }, (_, i) => `n${i} TXT "v=spf1 -all"`)],
    outcome: 'pass',
    code: 'spf_too_many_lookups',
    message: /more than 10 look-ups/,
  },
  {
    id: 'D30',
    state: 'more than ten look-ups, nested',
    check: 'spf',
    without: ['spf'],
    lines: [
      'mail TXT "v=spf1 include:amazonses.com include:sendmux.ai include:n.d30.com ~all"',
      'n TXT "v=spf1 a a:b.com mx ptr exists:c.com a:d.com mx:e.com a:f.com -all"',
    ],
    outcome: 'pass',
    code: 'spf_too_many_lookups',
  },
  {
    id: 'D30',
    state: 'exactly ten look-ups',
    check: 'spf',
    without: ['spf'],
    lines: [longSpf(8), ...Array.from({ length: 8 }, (_, i) => `n${i} TXT "v=spf1 -all"`)],
    outcome: 'pass',
    code: 'ok',
  },
  {
    id: 'D31',
    state: 'three void look-ups',
    check: 'spf',
    without: ['spf'],
    lines: [
      'mail TXT "v=spf1 include:amazonses.com include:sendmux.ai include:a.d31.com include:b.d31.com include:c.d31.com -all"',
      'd31 A 192.0.2.1',
    ],
    outcome: 'pass',
    code: 'spf_void_lookups',
    message: /a\.d31\.com, b\.d31\.com, c\.d31\.com/,
  },
  {
    id: 'D31',
    state: 'an include that nobody has registered',
    check: 'spf',
    without: ['spf'],
    lines: ['mail TXT "v=spf1 include:amazonses.com include:sendmux.ai include:spf.gone-for-good.com -all"'],
    outcome: 'pass',
    code: 'spf_dangling_include',
    message: /spf\.gone-for-good\.com/,
  },
  {
    id: 'D26',
    state: 'a redirect',
    check: 'spf',
    without: ['spf'],
    lines: [
      'mail TXT "v=spf1 redirect=_spf.d26.com"',
      '_spf TXT "v=spf1 include:amazonses.com include:sendmux.ai -all"',
    ],
    outcome: 'pass',
    code: 'spf_via_redirect',
    fix: [],
  },
  {
    id: 'D27',
    state: 'a nested include',
    check: 'spf',
    without: ['spf'],
    lines: [
      'mail TXT "v=spf1 include:_spf.d27.com ~all"',
      '_spf TXT "v=spf1 include:amazonses.com include:sendmux.ai -all"',
    ],
    outcome: 'pass',
    code: 'spf_via_redirect',
    fix: [],
  },
  {
    id: 'D6',
    state: 'one include is missing',
    check: 'spf',
    without: ['spf'],
    lines: ['mail TXT "v=spf1 include:sendmux.ai mx -all"'],
    outcome: 'fail',
    code: 'spf_include_missing',
    fix: ['replace mail.d6.com TXT v=spf1 include:amazonses.com include:sendmux.ai mx -all'],
  },
  {
    id: 'D8',
    state: 'two records',
    check: 'spf',
    without: ['spf'],
    lines: ['mail TXT "v=spf1 include:sendmux.ai include:amazonses.com ~all"', 'mail TXT "v=spf1 mx ~all"'],
    outcome: 'fail',
    code: 'spf_multiple',
    fix: ['replace mail.d8.com TXT v=spf1 include:amazonses.com include:sendmux.ai mx ~all'],
  },
  {
    id: 'D34',
    state: 'on the parent only',
    check: 'spf',
    without: ['spf'],
    lines: ['@ TXT "v=spf1 include:amazonses.com include:sendmux.ai ~all"'],
    outcome: 'fail',
    code: 'record_on_parent',
    message: /is at d34\.com, but you registered mail\.d34\.com/,
  },
  {
    id: 'E23',
    state: 'inherited from the parent',
    check: 'dmarc',
    without: ['dmarc'],
    lines: ['_dmarc TXT "v=DMARC1; p=reject"'],
    outcome: 'fail',
    code: 'dmarc_inherited_only',
    message: /inherits p=reject from e23\.com/,
    fix: ['create _dmarc.mail.e23.com TXT v=DMARC1; p=reject'],
  },
  {
    id: 'E24',
    state: 'the zone was appended',
    check: 'dmarc',
    without: ['dmarc'],
    lines: ['_dmarc.mail.e24.com TXT "v=DMARC1; p=quarantine"'],
    outcome: 'fail',
    code: 'name_auto_appended',
    message: /Enter _dmarc\.mail as its name/,
  },
  {
    id: 'E25',
    state: 'at the domain itself',
    check: 'dmarc',
    without: ['dmarc'],
    lines: ['mail TXT "v=DMARC1; p=reject"'],
    outcome: 'fail',
    code: 'record_on_wrong_name',
    message: /Move it to _dmarc\.mail\.e25\.com/,
  },
  {
    id: 'S',
    state: 'a loop of CNAMEs',
    check: 'dmarc',
    without: ['dmarc'],
    lines: ['_dmarc.mail CNAME a', 'a CNAME b', 'b CNAME a'],
    outcome: 'fail',
    code: 'cname_loop',
    message: /behind _dmarc\.mail\.s\.com form a loop, a\.s\.com → b\.s\.com → a\.s\.com/,
    fix: ['delete _dmarc.mail.s.com CNAME a.s.com', 'create _dmarc.mail.s.com TXT v=DMARC1; p=quarantine'],
  },
  {
    id: 'S',
    state: 'a wildcard CNAME that answers for its own target',
    check: 'mx',
    without: Object.keys(right) as Check[],
    lines: ['* CNAME www'],
    outcome: 'fail',
    code: 'cname_loop',
    message: /no record at mail\.s-1\.com itself: the wildcard \*\.s-1\.com answers for it/,
    fix: ['create mail.s-1.com MX 10 mail.sendmux.ai'],
  },
  {
    id: 'H25',
    state: 'an old MX with a long TTL',
    check: 'mx',
    without: ['mx'],
    lines: ['mail 86400 MX 10 aspmx.l.google.com.'],
    outcome: 'fail',
    code: 'mx_wrong_target',
  },
];
/** Each row has a zone of its own; rows with the same id get different zones. */
const zoneOf = (row: Row) => {
  const same = rows.filter(({ id }) => id === row.id).indexOf(row);
  return row.id.toLowerCase() + (same === 0 ? '' : `-${same}`) + '.com';
};

/** Skipped where BIND is not installed: tools/install-counterparts. */
(bindIsInstalled() ? describe : describe.skip)('explanations on a real BIND', () => {
  let bind: Bind;
  let clients: DohClient[];
  let asked: string[] = [];

  beforeAll(async () => {
    const ends = '@ SOA ns.com. hostmaster.com. 1 3600 600 86400 60\n@ NS ns.com.\n';
    const zones = rows.map((row) => {
      const kept = Object.entries(right).filter(([check]) => !row.without?.includes(check as Check));
      // The lines use the name of the first row with their id.
      const lines = (row.lines ?? []).map((line) => line.replaceAll(`${row.id.toLowerCase()}.com`, zoneOf(row)));
      return [zoneOf(row), `$TTL 60\n${ends}${[...kept.map(([, line]) => line), ...lines].join('\n')}\n`] as const;
    });
    // The parent zone denies names that are not registered.
    const com = `$TTL 60\n${ends}ns A 127.0.0.1\n${zones.map(([zone]) => `${zone}. NS ns.com.`).join('\n')}\n`;
    const sendmux = 'mail A 192.0.2.25\n@ TXT "v=spf1 ip4:192.0.2.0/24 -all"\n';
    bind = await startBind([], {
      ...Object.fromEntries(zones),
      com,
      'sendmux.ai': `$TTL 60\n${ends}${sendmux}`,
      'old-saas.example-net.com': `$TTL 60\n${ends}@ MX 10 mail.sendmux.ai.\n@ TXT ${token}\n`,
    });
    clients = [new DohClient({ url: bind.dohUrl }), new DohClient({ url: bind.dohUrl })];
  });
  afterAll(() => {
    for (const client of clients ?? []) client.close();
    bind?.stop();
  });

  const counted = (client: DohClient) => {
    const count =
      <Answer>(type: string, ask: (name: string) => Promise<Answer>) =>
      (name: string) => (asked.push(`${type} ${name}`), ask(name));
    return {
      mx: count('MX', (name) => client.mx(name)),
      txt: count('TXT', (name) => client.txt(name)),
      cname: count('CNAME', (name) => client.cname(name)),
    };
  };
  const explained = async (name: string): Promise<Explained[]> => {
    const domain = {
      name,
      team: 'team_abc123',
      dkimTokens: ['a', 'b', 'c'],
      dkimZone: 'dkim.amazonses.com',
      sesRegion: 'eu-west-1',
    };
    const resolvers = clients.map(counted);
    const look = await new Verifier(resolvers, { get: () => Promise.resolve(null) }).look(domain);
    asked = [];
    return new Explainer(resolvers, ['one', 'other']).explain(domain, look, null);
  };
  const of = async (row: Row) => (await explained(`mail.${zoneOf(row)}`)).find(({ check }) => check === row.check)!;

  const rowOf = (id: string) => rows.find((row) => row.id === id)!;

  it.each(rows.map((row) => [row.id, row.state, row] as const))('%s %s', async (_id, _state, row) => {
    const { outcome, code, severity, hint, fix, message } = await of(row);
    expect({ outcome, code }).toEqual({ outcome: row.outcome, code: row.code });
    expect(severity === 'blocking').toBe(row.outcome === 'fail');
    expect(hint === null).toBe(row.outcome === 'pass');
    if (row.message) expect(message).toMatch(row.message);
    if (row.fix)
      expect(fix.map(({ action, name, type, values }) => [action, name, type, ...values].join(' '))).toEqual(row.fix);
  });

  it('B2 may be asked again when the negative answer has gone from the caches', async () => {
    const { retryAfter, resolvers } = await of(rowOf('B2'));
    expect(resolvers).toMatchObject([
      { answer: 'nxdomain', ttl: 60 },
      { answer: 'nxdomain', ttl: 60 },
    ]);
    expect(retryAfter).toBe(60);
  });
  it('H25 says how long the old value stays in caches', async () => {
    const { hint, ttl, retryAfter } = await of(rowOf('H25'));
    expect(hint).toContain('may keep the old value for up to 24 h');
    expect([ttl, retryAfter]).toEqual([86_400, 86_400]);
  });
  it('C19 is repaired by one change', async () => {
    const [mx, , spf] = await explained('mail.c19.com');
    expect([mx!.code, spf!.code]).toEqual(['cname_at_name', 'cname_at_name']);
    expect(spf!.fix.map(({ action, type }) => `${action} ${type}`)).toEqual(['create TXT']);
    expect(spf!.hint).toContain('mended together with the MX');
  });
  it('A21 says that the zone is not registered', async () => {
    const [mx] = await explained('mail.nobody-has-this.com');
    expect(mx).toMatchObject({ outcome: 'fail', warnings: [{ code: 'domain_nxdomain' }] });
    const [itself] = await explained('nobody-has-this.com');
    expect(itself!.warnings).toMatchObject([{ code: 'domain_nxdomain' }]);
  });
  it('G7 asks only the resolvers, and connects to no name that a customer gives', async () => {
    // Every question of this suite went through the two clients, so a name in a record was at most asked for and never
    // connected to.
    await explained('mail.c17.com');
    expect(asked).toContain('CNAME mx.c17.com');
  });

  it('asks for few names, and for none when all is well but what could be warned of', async () => {
    await explained('mail.c20-1.com');
    expect(asked.sort()).toEqual([
      'MX _sendmux-wildcard-probe.*.mail.c20-1.com',
      'TXT _mta-sts.mail.c20-1.com',
      'TXT _sendmux-wildcard-probe.*._sendmux.mail.c20-1.com',
    ]);
    await explained('a.b.c.d.e.f.g.nobody-has-this.com');
    expect(asked.length).toBeLessThanOrEqual(50);
  });
  it('explains without further clues when no resolver answers', async () => {
    const domain = {
      name: 'mail.b14.com',
      team: 'team_abc123',
      dkimTokens: [],
      dkimZone: 'dkim.amazonses.com',
      sesRegion: 'eu-west-1',
    };
    const look = await new Verifier(clients, { get: () => Promise.resolve(null) }).look(domain);
    const silent = () => new Promise<never>(() => undefined);
    const all = await new Explainer([{ mx: silent, txt: silent, cname: silent }], [], 100).explain(domain, look, null);
    expect(failing(all).map(({ code }) => code)).toEqual(['txt_missing']);
  });
});
