import { dnsPlan, planWarnings, preflight, recordSets, type Explained, type Operation } from '@app/mail-records';
import { ZoneModel, type ZoneData } from '../../test/support/zone-model';
import { Explainer } from './explainer';
import { PublishedRecords } from './published-records';
import { Verifier } from './verifier';

const d = 'mail.acme.com';
const domain = {
  name: d,
  team: 'team_abc123',
  dkimTokens: ['t1', 't2', 't3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const own = 'include:amazonses.com include:sendmux.ai';
const spf = `v=spf1 ${own} ~all`;
const platform: ZoneData = {
  'amazonses.com': { TXT: ['v=spf1 ip4:199.255.192.0/22 -all'] },
  'sendmux.ai': { TXT: ['v=spf1 ip4:192.0.2.0/24 -all'] },
  com: { SOA: ['x'] },
  'acme.com': { SOA: ['x'] },
};
/** All records of the domain in place. */
const placed = recordSets(domain).reduce<ZoneData>(
  (zone, { name, type, values }) => ({ ...zone, [name]: { ...zone[name], [type]: values } }),
  {},
);
const zoneOf = (data: ZoneData): ZoneModel => new ZoneModel({ ...platform, ...data });

async function explained(zone: ZoneModel): Promise<Explained[]> {
  const resolvers = [zone.resolver, zone.resolver];
  const look = await new Verifier(resolvers, { get: () => Promise.resolve(null) }).look(domain);
  return new Explainer(resolvers, ['one', 'other']).explain(domain, look, null);
}
const detailOf = async (check: string, zone: ZoneModel) =>
  (await explained(zone)).find((detail) => detail.check === check)!;
async function planOf(zone: ZoneModel) {
  const published = await new PublishedRecords([zone.resolver, zone.resolver]).of(domain);
  const operations = dnsPlan(domain, published);
  return { operations, warnings: planWarnings(domain, published, operations) };
}
const written = (operations: readonly Operation[]) =>
  operations.map(({ action, name, type, values }) => [action, name, type, ...values].join(' '));
/** The codes of what does not pass. */
const failures = async (zone: ZoneModel): Promise<string[]> => {
  const verifier = new Verifier([zone.resolver, zone.resolver], { get: () => Promise.resolve(null) });
  const { findings } = await verifier.check(domain, 'success');
  return findings.filter(({ outcome }) => outcome !== 'pass').map(({ check, code }) => `${check} ${code}`);
};
const creates = recordSets(domain).map(({ name, type, values }) => `create ${name} ${type} ${values.join(' ')}`);
const create = {
  mx: `create ${d} MX 10 mail.sendmux.ai`,
  dmarc: `create _dmarc.${d} TXT v=DMARC1; p=quarantine`,
  token: `create _sendmux.${d} TXT sendmux-verify=team_abc123`,
};
/** Without the operations at names that a test says nothing about. */
const about = (operations: readonly Operation[], ...names: string[]): Operation[] =>
  operations.filter(({ action, name }) => action !== 'keep' && names.includes(name));
const txt = (...values: string[]) => ({ TXT: values });

describe('an SPF record that names our includes, and what receivers make of it', () => {
  const of = (record: string, targets: ZoneData) =>
    detailOf('spf', zoneOf({ ...placed, [d]: { ...placed[d], TXT: [record] }, ...targets }));

  it.each<[string, string, ZoneData]>([
    ['no SPF record', 'old.vendor.com', { 'old.vendor.com': txt('hello') }],
    ['no record at all', 'old.vendor.com', { 'vendor.com': txt('hello') }],
    ['two SPF records', 'old.vendor.com', { 'old.vendor.com': txt('v=spf1 a -all', 'v=spf1 mx -all') }],
    ['a broken one', 'old.vendor.com', { 'old.vendor.com': txt('v=spf1 ip4:192.0.2.300 -all') }],
    [
      'one that leads to a broken one',
      'new.vendor.com',
      { 'new.vendor.com': txt('v=spf1 ?include:old.vendor.com -all'), 'old.vendor.com': txt('x') },
    ],
    [
      'one that redirects to nothing',
      'new.vendor.com',
      { 'new.vendor.com': txt('v=spf1 redirect=old.vendor.com'), 'old.vendor.com': txt('x') },
    ],
  ])('M2: behind a name with %s is a permerror for all mail; ours first is safe', async (_what, name, targets) => {
    for (const qualifier of ['', '-', '~', '?']) {
      const first = await of(`v=spf1 ${qualifier}include:${name} ${own} -all`, targets);
      expect(first).toMatchObject({ outcome: 'pass', code: 'spf_broken_include', severity: 'breaking' });
      expect(first.message).toMatch(/old\.vendor\.com.*RFC 7208 section 5\.2.*v=spf1 include:amazonses\.com/);
      const between = await of(
        `v=spf1 include:sendmux.ai ${qualifier}include:${name} include:amazonses.com -all`,
        targets,
      );
      expect(between).toMatchObject({ code: 'spf_broken_include', severity: 'breaking' });
      const last = await of(`v=spf1 ${own} ${qualifier}include:${name} -all`, targets);
      expect(last).toMatchObject({ outcome: 'pass', severity: 'warning' });
      expect(last.message).not.toContain('for all mail');
    }
  });

  it.each(['-', '~', '?'])('M3: the first match decides, and it is %sinclude', async (qualifier) => {
    const refusing = `v=spf1 ${qualifier}include:x.vendor.com ${own} -all`;
    const direct = await of(refusing, { 'x.vendor.com': txt('v=spf1 include:amazonses.com -all') });
    expect(direct).toMatchObject({ outcome: 'pass', code: 'spf_refused_earlier', severity: 'breaking' });
    expect(direct.message).toContain(`“${qualifier}include:x.vendor.com” stands before include:amazonses.com`);
    const nested = await of(refusing, {
      'x.vendor.com': txt('v=spf1 redirect=y.vendor.com'),
      'y.vendor.com': txt('v=spf1 include:sendmux.ai -all'),
    });
    expect(nested).toMatchObject({ code: 'spf_refused_earlier', severity: 'breaking' });
    for (const everybody of ['v=spf1 all', 'v=spf1 ip4:0.0.0.0/0 -all', 'v=spf1 include:all.vendor.com -all'])
      expect(
        await of(refusing, { 'x.vendor.com': txt(everybody), 'all.vendor.com': txt('v=spf1 +all') }),
      ).toMatchObject({ code: 'spf_refused_earlier', severity: 'breaking' });
    const harmless = [
      of(refusing, { 'x.vendor.com': txt('v=spf1 -include:amazonses.com -all') }),
      of(refusing, { 'x.vendor.com': txt('v=spf1 ip4:198.51.100.0/24 -all') }),
      of(`v=spf1 ${own} ${qualifier}include:x.vendor.com -all`, { 'x.vendor.com': txt(spf) }),
      of(`v=spf1 ${own} ${qualifier}include:x.vendor.com -all`, { 'x.vendor.com': txt('v=spf1 +all') }),
      of(refusing, { 'x.vendor.com': txt('v=spf1 ip6:::/0 -all') }),
    ];
    for (const each of await Promise.all(harmless)) expect(each).toMatchObject({ code: 'ok', severity: 'info' });
  });
});

describe('S1: a wildcard', () => {
  const alias = { CNAME: ['cname.host.example'] };
  it.each<[string, ZoneData, string]>([
    ['beside the domain', { '*.acme.com': alias }, '*.acme.com'],
    ['of a name that has nothing else', { '*.acme.com': alias, 'www.acme.com': txt('x') }, '*.acme.com'],
    ['to a host with records', { '*.acme.com': alias, 'cname.host.example': placed[d]! }, '*.acme.com'],
  ])('%s is no record there: the plan and each fix only create, and name it', async (_what, data, wildcard) => {
    const zone = zoneOf(data);
    const { operations, warnings } = await planOf(zone);
    expect(written(operations)).toEqual(creates);
    expect(warnings).toEqual([]);
    for (const { reason } of operations.filter(({ name }) => name === d))
      expect(reason).toContain(`The wildcard ${wildcard} answers for ${d} now; all that it serves there stops`);
    const details = await explained(zone);
    for (const { message, fix } of details.slice(0, 4)) {
      expect(fix.map(({ action }) => action)).toEqual(['create']);
      expect(creates).toEqual(expect.arrayContaining(written(fix)));
      expect(message).toContain(`The wildcard ${wildcard} answers for`);
      expect(message).toContain('stops with the first record');
      expect(message).not.toContain('remove the CNAME');
    }
    expect(details.map(({ code }) => code).slice(0, 3)).toEqual([
      'cname_at_name',
      'verification_via_cname',
      'cname_at_name',
    ]);
    expect(await failures(zone.after(operations))).toEqual([]);
    expect(written((await planOf(zone.after(operations))).operations).every((each) => each.startsWith('keep'))).toBe(
      true,
    );
  });

  it('deeper than the domain serves the names below it, and not the domain', async () => {
    const { [`_dmarc.${d}`]: _gone, ...rest } = zoneOf({ ...placed, [`*.${d}`]: alias }).data;
    const { operations } = await planOf(new ZoneModel(rest));
    expect(written(about(operations, d, `_dmarc.${d}`))).toEqual([create.dmarc]);
    const { fix, message } = await detailOf('dmarc', new ZoneModel(rest));
    expect(written(fix)).toEqual([create.dmarc]);
    expect(message).toContain(`The wildcard *.${d} answers for _dmarc.${d} now`);
  });

  it('is told from a CNAME that is stored, also where both say the same', async () => {
    const wildcards: ZoneData[] = [
      {},
      { '*.acme.com': alias },
      { [`*.${d}`]: alias },
      { '*.acme.com': alias, [`*.${d}`]: alias },
    ];
    for (const beside of wildcards) {
      const zone = zoneOf({ ...beside, [d]: alias });
      const { operations } = await planOf(zone);
      expect(written(operations)[0]).toBe(`delete ${d} CNAME cname.host.example`);
      expect(await failures(zone.after(operations))).toEqual([]);
      const { fix } = await detailOf('mx', zone);
      expect(written(fix)).toEqual([`delete ${d} CNAME cname.host.example`, create.mx]);
    }
  });

  it('that serves mail keeps on doing so: what it gives is written, merged with ours', async () => {
    const zone = zoneOf({
      '*.acme.com': {
        MX: ['10 mail.sendmux.ai', '20 backup.other.net'],
        TXT: ['v=spf1 include:_spf.other.net -all', 'v=DMARC1; p=reject'],
      },
      '_spf.other.net': txt('v=spf1 ip4:198.51.100.0/24 -all'),
    });
    const { operations } = await planOf(zone);
    expect(operations.every(({ action }) => action === 'create')).toBe(true);
    expect(written(operations)).toEqual(
      expect.arrayContaining([
        `create ${d} MX 20 backup.other.net`,
        `create ${d} TXT v=spf1 ${own} include:_spf.other.net -all`,
        `create _dmarc.${d} TXT v=DMARC1; p=reject`,
      ]),
    );
    expect(await failures(zone.after(operations))).toEqual([]);
  });

  it('that makes other checks pass is not ended by a fix: their records come with it', async () => {
    const zone = zoneOf({ '*.acme.com': { MX: ['10 mail.sendmux.ai'], TXT: [spf] } });
    const before = await failures(zone);
    const { fix } = await detailOf('dmarc', zone);
    const after = await failures(zone.after(fix));
    expect(before.slice(0, 2)).toEqual(['verification_txt txt_wrong_value', 'dmarc dmarc_missing']);
    expect(after[0]).toEqual('verification_txt txt_missing');
    expect(after.filter((failure) => /^(mx|spf|dmarc) /.test(failure))).toEqual([]);
  });

  it('is no misplaced record: nobody has placed it at the name with the zone appended', async () => {
    const zone = zoneOf({ '*.acme.com': txt('sendmux-verify=team_abc123'), [d]: placed[d]! });
    const { code, fix } = await detailOf('verification_txt', zone);
    expect(code).toBe('txt_missing');
    expect(written(fix)).toEqual([create.token]);
  });
});

describe('a domain that only sends', () => {
  const sending = { ...domain, mode: 'send_only' } as const;
  const google = ['1 aspmx.l.google.com', '5 alt1.aspmx.l.google.com'];
  const mail = `create ${d} MX ${google.join(' ')}`;
  const resolversOf = (zone: ZoneModel) => [zone.resolver, zone.resolver];
  const mxOf = async (zone: ZoneModel) => {
    const answer = await zone.resolver.mx(d);
    return answer.kind === 'records'
      ? answer.records.map(({ preference, exchange }) => `${preference} ${exchange}`)
      : [];
  };
  const explainedOf = async (zone: ZoneModel) => {
    const identity = { status: 'pending', tokens: domain.dkimTokens, verification: {} } as never;
    const look = await new Verifier(resolversOf(zone), { get: () => Promise.resolve(identity) }).look(sending);
    return new Explainer(resolversOf(zone), []).explain(sending, look, null);
  };
  const preflightOf = async (zone: ZoneModel) => {
    const published = await new PublishedRecords(resolversOf(zone)).of({ name: d, mode: 'send_only', dkimTokens: [] });
    return preflight(sending, published, 'acme.com', false);
  };
  const served: [string, ZoneData][] = [
    ['wildcard', { '*.acme.com': { MX: google } }],
    ['wildcard with TXT records', { '*.acme.com': { MX: google, TXT: [spf] } }],
    ['wildcard with a CNAME', { '*.acme.com': { CNAME: ['host.example'] }, 'host.example': { MX: google } }],
    ['CNAME', { [d]: { CNAME: ['host.example'] }, 'host.example': { MX: google } }],
  ];

  it.each(served)('keeps the mail that a %s gives it: plan and fixes write its MX', async (what, data) => {
    const zone = zoneOf(data);
    expect((await mxOf(zone)).sort()).toEqual(google);
    const published = await new PublishedRecords(resolversOf(zone)).of(sending);
    const operations = dnsPlan(sending, published);
    expect(written(operations)).toContain(mail);
    expect((await mxOf(zone.after(operations))).sort()).toEqual(google);
    const warnings = planWarnings(sending, published, operations).map(({ code }) => code);
    expect(warnings).toEqual(what.startsWith('wildcard') ? ['wildcard_ends'] : []);
    const again = await new PublishedRecords(resolversOf(zone.after(operations))).of(sending);
    expect(dnsPlan(sending, again).every(({ action }) => action === 'keep')).toBe(true);
    for (const { fix } of await explainedOf(zone)) expect((await mxOf(zone.after(fix))).sort()).toEqual(google);
  });

  it.each(served)(
    'is told before the add that what a %s gives it ends, and how its mail goes on',
    async (what, data) => {
      const { findings } = await preflightOf(zoneOf(data));
      const code = what === 'CNAME' ? 'cname_at_name' : 'wildcard_ends';
      expect(findings.find((each) => each.code === code)?.message).toContain(
        'Its MX stops as well: the DNS plan has it',
      );
    },
  );

  it.each<[string, ZoneData]>([...served, ['record of its own', { [d]: { MX: google } }]])(
    'is said to be received by whom its MX names, which a %s gives it',
    async (_what, data) => {
      const { receivedBy } = await preflightOf(zoneOf(data));
      expect(receivedBy.map(({ host, provider }) => `${provider} ${host}`)).toEqual(
        google.map((value) => `Google Workspace ${value.slice(2)}`),
      );
    },
  );

  it('has no MX written where its own stays, or where there is none', async () => {
    const zones: ZoneData[] = [
      { [d]: { MX: google } },
      { '*.acme.com': txt('x') },
      { '*.acme.com': { MX: google }, [d]: txt('x') },
    ];
    for (const data of zones) {
      const operations = dnsPlan(sending, await new PublishedRecords(resolversOf(zoneOf(data))).of(sending));
      expect(operations.filter(({ name, type }) => name === d && type === 'MX')).toEqual([]);
      const { findings } = await preflightOf(zoneOf(data));
      expect(JSON.stringify(findings)).not.toContain('Its MX stops');
    }
  });
});

describe('S2: a DNAME', () => {
  const dname = { DNAME: ['acme.net'] };
  it('above the domain leaves no place for any record, which is said, and nothing is advised but another name', async () => {
    const beyonds: ZoneData[] = [{}, { 'mail.acme.net': placed[d]! }, { 'mail.acme.net': { CNAME: ['x.acme.net'] } }];
    for (const beyond of beyonds) {
      const zone = zoneOf({ 'acme.com': dname, ...beyond });
      const { operations, warnings } = await planOf(zone);
      expect(operations).toEqual([]);
      expect(warnings).toMatchObject([{ code: 'dname_above', severity: 'blocking' }]);
      for (const { check, outcome, code, message, fix, warnings: told } of await explained(zone)) {
        expect(fix).toEqual([]);
        if (check === 'dkim') continue;
        expect([outcome, code, told]).toEqual(['fail', 'dname_above', []]);
        expect(message).toMatch(
          /acme\.com, which has a DNAME to acme\.net.*RFC 6672 section 2\.4.*Add mail\.acme\.net to/,
        );
      }
    }
  });

  it('at the domain leaves no place for the records below it', async () => {
    const zone = zoneOf({ [d]: { ...placed[d], ...dname } });
    const { operations, warnings } = await planOf(zone);
    expect(written(operations)).toEqual([`keep ${d} MX 10 mail.sendmux.ai`, `keep ${d} TXT ${spf}`]);
    expect(warnings).toMatchObject([{ code: 'dname_above', severity: 'blocking' }]);
    expect(warnings[0]!.message).toContain('Remove the DNAME.');
    expect((await explained(zone)).map(({ code }) => code).slice(0, 4)).toEqual([
      'ok',
      'dname_above',
      'ok',
      'dname_above',
    ]);
  });

  it('below the domain is said of the DKIM records, by the plan and by the fix', async () => {
    const others = Object.entries(placed).filter(([name]) => !name.includes('_domainkey'));
    const zone = zoneOf({ ...Object.fromEntries(others), [`_domainkey.${d}`]: { DNAME: ['keys.vendor.com'] } });
    const { operations, warnings } = await planOf(zone);
    expect(operations.map(({ name }) => name)).not.toContainEqual(expect.stringContaining('_domainkey'));
    expect(operations.every(({ action }) => action === 'keep')).toBe(true);
    expect(warnings).toMatchObject([{ code: 'dname_above', severity: 'blocking' }]);
    const identity = { status: 'pending', tokens: domain.dkimTokens, verification: {} } as never;
    const resolvers = [zone.resolver, zone.resolver];
    const look = await new Verifier(resolvers, { get: () => Promise.resolve(identity) }).look(domain);
    const all = await new Explainer(resolvers, []).explain(domain, look, null);
    const dkim = all.find(({ check }) => check === 'dkim');
    expect(dkim).toMatchObject({ fix: [], warnings: [{ code: 'dname_above' }] });
  });

  it('that leads back to itself is in the way, and no CNAME: none is stored, and no name in the loop is offered', async () => {
    const zone = zoneOf({ 'acme.com': { ...dname, SOA: ['x'] }, 'acme.net': { DNAME: ['acme.com'] } });
    const { operations, warnings } = await planOf(zone);
    expect(operations).toEqual([]);
    expect(warnings).toMatchObject([{ code: 'dname_above', severity: 'blocking' }]);
    const details = (await explained(zone)).filter(({ check }) => check !== 'dkim');
    for (const { outcome, code, hint, fix, warnings: told } of details) {
      expect({ outcome, code, fix, told }).toEqual({ outcome: 'fail', code: 'dname_above', fix: [], told: [] });
      expect(hint).toContain('remove the DNAME');
    }
    for (const { message } of [...warnings, ...details]) {
      expect(message).toContain('acme.com, which has a DNAME to acme.net');
      expect(message).toContain('Remove the DNAME.');
      expect(message).not.toContain('mail.acme.net');
      expect(message).not.toContain('CNAME at');
    }
  });

  it('at the domain, which leads back to it, is in the way of the records below it', async () => {
    const zone = zoneOf({ [d]: { ...placed[d], DNAME: ['x.acme.net'] }, 'x.acme.net': { DNAME: [d] } });
    const details = await explained(zone);
    expect(details.map(({ code }) => code).slice(0, 4)).toEqual(['ok', 'dname_above', 'ok', 'dname_above']);
    expect(details[1]!.message).toContain('Remove the DNAME.');
  });

  it('to which a CNAME of the domain leads is not in the way of its removal', async () => {
    const zone = zoneOf({ [d]: { CNAME: ['mail.acme.net'] }, 'acme.net': { DNAME: ['acme.com'] } });
    const { code, message, fix } = await detailOf('mx', zone);
    expect(code).toBe('cname_loop');
    expect(message).toContain(`Remove the CNAME at ${d}.`);
    expect(written(fix)).toEqual([`delete ${d} CNAME mail.acme.net`, create.mx]);
  });

  it('beyond a CNAME of the domain is somebody else’s', async () => {
    const zone = zoneOf({ [d]: { CNAME: ['a.host.example'] }, 'host.example': { DNAME: ['other.example'] } });
    expect(written((await planOf(zone)).operations)[0]).toBe(`delete ${d} CNAME a.host.example`);
  });
});

describe('F10: the fix of DKIM records', () => {
  const at = (n: number) => `t${n}._domainkey.${d}`;
  const right = (n: number) => `t${n}.dkim.amazonses.com`;
  const without = Object.fromEntries(Object.entries(placed).filter(([name]) => !name.includes('_domainkey')));
  const fixIn = async (zone: ZoneModel) => {
    const identity = { status: 'pending', tokens: domain.dkimTokens, verification: {} } as never;
    const resolvers = [zone.resolver, zone.resolver];
    const look = await new Verifier(resolvers, { get: () => Promise.resolve(identity) }).look(domain);
    const all = await new Explainer(resolvers, []).explain(domain, look, null);
    const dkim = all.find(({ check }) => check === 'dkim')!;
    expect(dkim).toMatchObject({ outcome: 'fail', code: 'dkim_pending' });
    // The plan says the same.
    const planned = (await planOf(zone)).operations.filter(
      ({ name, action }) => name.includes('_domainkey') && action !== 'keep',
    );
    expect(written(dkim.fix).filter((each) => each.includes('_domainkey'))).toEqual(written(planned));
    return written(dkim.fix);
  };
  const create = (n: number) => `create ${at(n)} CNAME ${right(n)}`;

  it('has only those that are not in place', async () => {
    const stored = { ...without, [at(2)]: { CNAME: [right(2)] } };
    expect(await fixIn(zoneOf(stored))).toEqual([create(1), create(3)]);
    expect(await fixIn(zoneOf({ ...stored, [at(1)]: { CNAME: ['t1.dkim.example.net'] } }))).toEqual([
      `replace ${at(1)} CNAME ${right(1)}`,
      create(3),
    ]);
    expect(await fixIn(zoneOf({ ...stored, [at(1)]: txt('x'), [at(3)]: { MX: ['10 mx.other.net'] } }))).toEqual([
      `delete ${at(1)} TXT x`,
      `delete ${at(3)} MX 10 mx.other.net`,
      create(1),
      create(3),
    ]);
    expect(await fixIn(zoneOf(placed))).toEqual([]);
  });

  it.each<[string, ZoneData]>([
    ['below the domain', { [`*.${d}`]: { CNAME: ['host.example'] } }],
    ['beside the domain, which has nothing else', { '*.acme.com': { CNAME: ['host.example'] } }],
    ['of the DKIM names', { [`*._domainkey.${d}`]: { CNAME: [right(1)] } }],
    ['with TXT records', { [`*.${d}`]: txt('x') }],
  ])('takes nothing of a wildcard %s for stored', async (what, wildcard) => {
    const zone = zoneOf({ ...(what.startsWith('beside') ? {} : without), ...wildcard });
    const fix = await fixIn(zone);
    expect(fix.filter((each) => each.includes('_domainkey'))).toEqual([create(1), create(2), create(3)]);
    expect(fix.every((each) => each.startsWith('create'))).toBe(true);
    // What is stored beside it is told from it.
    const mixed = new ZoneModel({ ...zone.data, [at(2)]: { CNAME: [right(2)] }, [at(3)]: { CNAME: ['host.example'] } });
    expect((await fixIn(mixed)).filter((each) => each.includes('_domainkey'))).toEqual([
      `replace ${at(3)} CNAME ${right(3)}`,
      create(1),
    ]);
  });

  it('takes nothing for stored where there is no time to find out', async () => {
    const zone = zoneOf({ ...without, [`*.${d}`]: { CNAME: ['host.example'] } });
    const slow: typeof zone.resolver = {
      ...zone.resolver,
      cname: (name) => (name.includes('probe') ? new Promise<never>(() => undefined) : zone.resolver.cname(name)),
    };
    const identity = { status: 'pending', tokens: domain.dkimTokens, verification: {} } as never;
    const look = await new Verifier([slow, slow], { get: () => Promise.resolve(identity) }).look(domain);
    const all = await new Explainer([slow, slow], [], 50).explain(domain, look, null);
    expect(written(all.find(({ check }) => check === 'dkim')!.fix)).toEqual([create(1), create(2), create(3)]);
  });

  it('is not moved by a CNAME at the domain', async () => {
    const zone = zoneOf({
      [d]: { CNAME: ['host.example'] },
      'host.example': placed[d]!,
      [at(2)]: { CNAME: [right(2)] },
    });
    expect(await fixIn(zone)).toEqual([create(1), create(3)]);
  });

  it('leaves the MAIL FROM domain as it is, and brings along what the end of a wildcard takes from it', async () => {
    const { [`bounce.${d}`]: mailFrom, ...others } = without;
    const served = zoneOf({ ...others, [`*.${d}`]: mailFrom! });
    expect(await fixIn(served)).toEqual([create(1), create(2), create(3)]);
    expect(await failures(served.after((await planOf(served)).operations))).toEqual([]);
    const beside = zoneOf({ '*.acme.com': mailFrom! });
    const fix = await fixIn(beside);
    const [mx, spf] = [
      `create bounce.${d} MX 10 feedback-smtp.eu-west-1.amazonses.com`,
      `create bounce.${d} TXT v=spf1 include:amazonses.com ~all`,
    ];
    expect(fix).toEqual(expect.arrayContaining([create(1), create(2), create(3), mx, spf]));
  });
});

describe('a CNAME', () => {
  it('that leads back to itself is removed', async () => {
    const zone = zoneOf({
      ...placed,
      [`_dmarc.${d}`]: { CNAME: ['loop.acme.com'] },
      'loop.acme.com': { CNAME: [`_dmarc.${d}`] },
    });
    const { operations } = await planOf(zone);
    expect(written(operations.filter(({ action }) => action !== 'keep'))).toEqual([
      `delete _dmarc.${d} CNAME loop.acme.com`,
      create.dmarc,
    ]);
    expect(await failures(zone.after(operations))).toEqual([]);
  });

  it('of a domain that only sends is removed for the SPF record, since there is no MX record to do so', async () => {
    const sending = { ...domain, mode: 'send_only' } as const;
    const zone = zoneOf({ ...placed, [d]: { CNAME: ['cname.host.example'] } });
    const resolvers = [zone.resolver, zone.resolver];
    const expected = [`delete ${d} CNAME cname.host.example`, `create ${d} TXT ${spf}`];
    const operations = dnsPlan(sending, await new PublishedRecords(resolvers).of(sending));
    expect(written(operations.filter(({ action }) => action !== 'keep'))).toEqual(expected);
    const look = await new Verifier(resolvers, { get: () => Promise.resolve(null) }).look(sending);
    const details = await new Explainer(resolvers, ['one', 'other']).explain(sending, look, null);
    const { fix, hint } = details.find(({ check }) => check === 'spf')!;
    expect(written(fix)).toEqual(expected);
    expect(hint).not.toContain('together with the MX');
    const after = zone.after(operations);
    const { findings } = await new Verifier([after.resolver, after.resolver], {
      get: () => Promise.resolve(null),
    }).check(sending, 'success');
    expect(findings.filter(({ outcome }) => outcome !== 'pass')).toEqual([]);
  });

  describe('that leads into a loop', () => {
    const loop = { 'a.acme.com': { CNAME: ['b.acme.com'] }, 'b.acme.com': { CNAME: ['a.acme.com'] } };
    const names = 'a.acme.com → b.acme.com → a.acme.com';
    const others = (name: string) => Object.fromEntries(Object.entries(placed).filter(([at]) => at !== name));
    it.each([
      ['dmarc', `_dmarc.${d}`, [create.dmarc]],
      ['verification_txt', `_sendmux.${d}`, [create.token]],
      ['mx', d, [create.mx]],
      ['mail_from_mx', `bounce.${d}`, [`create bounce.${d} MX 10 feedback-smtp.eu-west-1.amazonses.com`]],
    ])('is named by %s where resolvers say no more than SERVFAIL, and is removed', async (check, name, created) => {
      const zone = zoneOf({ ...others(name), ...loop, [name]: { CNAME: ['a.acme.com'] } });
      const { code, outcome, message, hint, fix } = await detailOf(check, zone);
      expect({ code, outcome }).toEqual({ code: 'cname_loop', outcome: 'fail' });
      expect(message).toContain(names);
      expect(message).toContain(`Remove the CNAME at ${name}.`);
      expect(hint).toContain(`These CNAMEs form the loop: ${names}.`);
      expect(written(fix)).toEqual([`delete ${name} CNAME a.acme.com`, ...created]);
      expect(await failures(zone.after(fix))).not.toContainEqual(expect.stringContaining(check + ' '));
    });

    it('is mended of the SPF record together with the MX', async () => {
      const zone = zoneOf({ ...others(d), ...loop, [d]: { CNAME: ['a.acme.com'] } });
      const { code, hint } = await detailOf('spf', zone);
      expect(code).toBe('cname_loop');
      expect(hint).toContain('This is mended together with the MX.');
    });

    it('of a wildcard is not removed, since nothing is stored', async () => {
      const zone = zoneOf({ '*.acme.com': { CNAME: ['www.acme.com'] } });
      const { code, message, hint, fix } = await detailOf('mx', zone);
      expect(code).toBe('cname_loop');
      expect(message).toContain(`There is no record at ${d} itself: the wildcard *.acme.com answers for it`);
      expect(hint).toContain('www.acme.com → www.acme.com');
      expect(written(fix)).toEqual([create.mx]);
    });

    it('of a name that the SPF record leads to is said of that name', async () => {
      const record = 'v=spf1 include:a.acme.com -all';
      const zone = zoneOf({ ...placed, ...loop, [d]: { ...placed[d], TXT: [record] } });
      const { code, message, hint, fix } = await detailOf('spf', zone);
      expect(code).toBe('cname_loop');
      expect(message).toContain(`${names}, so`);
      expect(message).toContain('Take a.acme.com out of the record');
      expect(hint).toContain(names);
      expect(written(fix)).toEqual([`replace ${d} TXT v=spf1 ${own} -all`]);
      const said = 'because its CNAMEs form a loop, and nobody finds a record there: “include:a.acme.com”';
      const { operations, warnings } = await planOf(zone);
      expect(written(about(operations, d))).toEqual(written(fix));
      expect(warnings).toEqual([]);
      for (const { reason } of [...fix, ...about(operations, d)]) expect(reason).toContain(said);
    });

    it.each([
      [
        'an include that leads into it',
        'include:in.acme.com include:good.vendor.com -all',
        'include:good.vendor.com -all',
      ],
      ['a redirect', 'redirect=a.acme.com', '~all'],
    ])('is left out of a merged SPF record, with no more than %s', async (_what, terms, left) => {
      const zone = zoneOf({
        ...placed,
        ...loop,
        'in.acme.com': { CNAME: ['a.acme.com'] },
        'good.vendor.com': txt('v=spf1 ip4:198.51.100.1 -all'),
        [d]: { ...placed[d], TXT: [`v=spf1 ${terms}`] },
        [`bounce.${d}`]: { ...placed[`bounce.${d}`], TXT: [`v=spf1 ${terms}`] },
      });
      const wanted = [
        `replace ${d} TXT v=spf1 ${own} ${left}`,
        `replace bounce.${d} TXT v=spf1 include:amazonses.com ${left}`,
      ];
      const { operations, warnings } = await planOf(zone);
      expect(written(operations.filter(({ action }) => action !== 'keep'))).toEqual(wanted);
      expect(warnings).toEqual([]);
      const details = await explained(zone);
      const fixes = ['spf', 'mail_from_spf'].map((check) => details.find((each) => each.check === check)!.fix);
      expect(fixes.flatMap(written)).toEqual(wanted);
    });

    it('is known by the name that resolvers fail for, whatever a message says of it', async () => {
      const record = 'v=spf1 include:a.acme.com -all';
      const { resolver } = zoneOf({ ...placed, ...loop, [d]: { ...placed[d], TXT: [record] } });
      const resolvers = [resolver, resolver];
      const look = await new Verifier(resolvers, { get: () => Promise.resolve(null) }).look(domain);
      const findings = look.assessment.findings.map((each) => ({ ...each, message: 'Other words.' }));
      const reworded = { ...look, assessment: { ...look.assessment, findings } };
      const details = await new Explainer(resolvers, ['one', 'other']).explain(domain, reworded, null);
      const { code, message } = details.find(({ check }) => check === 'spf')!;
      expect(code).toBe('cname_loop');
      expect(message).toContain('Take a.acme.com out of the record');
      expect(Object.keys(findings[2]!).sort()).toEqual(Object.keys(findings[0]!).sort());
    });

    it('is another thing than a SERVFAIL of another cause', async () => {
      const broken = { txt: () => Promise.resolve({ kind: 'servfail' as const }) };
      const resolvers = [0, 1].map(() => ({ ...zoneOf(placed).resolver, ...broken }));
      const look = await new Verifier(resolvers, { get: () => Promise.resolve(null) }).look(domain);
      const [, token] = await new Explainer(resolvers, ['one', 'other']).explain(domain, look, null);
      expect(token).toMatchObject({ code: 'dns_servfail', fix: [] });
    });
  });

  it('with a TXT record beside it is removed, and the record merged, not doubled', async () => {
    const zone = zoneOf({
      ...placed,
      [d]: { CNAME: ['cname.host.example'], TXT: ['v=spf1 mx -all'] },
      [`_sendmux.${d}`]: { CNAME: ['cname.host.example'], TXT: ['sendmux-verify=team_abc123'] },
    });
    const { operations } = await planOf(zone);
    expect(written(operations.filter(({ action }) => action !== 'keep')).sort()).toEqual(
      [
        `delete ${d} CNAME cname.host.example`,
        `delete _sendmux.${d} CNAME cname.host.example`,
        `replace ${d} TXT v=spf1 ${own} mx -all`,
        create.mx,
      ].sort(),
    );
    expect(await failures(zone.after(operations))).toEqual([]);
    for (const check of ['spf', 'verification_txt'])
      expect(written(operations)).toEqual(expect.arrayContaining(written((await detailOf(check, zone)).fix)));
  });
});

describe('M9: a target to which the DNS provider has appended the zone', () => {
  const reasonsOf = (operations: readonly Operation[], name: string) =>
    operations.filter((each) => each.name === name && each.action !== 'keep').map(({ reason }) => reason);
  const at = `_dmarc.${d}`;
  const others = Object.fromEntries(Object.entries(placed).filter(([name]) => name !== at));

  it.each(['acme.com', d])('of a hosted DMARC record is said, with what to type: %s', async (zone) => {
    const target = `acme.hosted.example.${zone}`;
    const hosted = zoneOf({ ...others, [at]: { CNAME: [target] }, 'acme.hosted.example': txt('v=DMARC1; p=reject') });
    const { outcome, code, message, fix } = await detailOf('dmarc', hosted);
    expect({ outcome, code }).toEqual({ outcome: 'fail', code: 'dmarc_missing' });
    expect(message).toBe(
      `${at} is a CNAME to ${target}, where there is no DMARC record: your DNS provider has appended the zone to the target, since acme.hosted.example has one. Enter acme.hosted.example. with the dot at its end.`,
    );
    const said = `Where acme.hosted.example was meant, the DNS provider has appended the zone to the target: enter acme.hosted.example. with the dot at its end instead`;
    expect(reasonsOf(fix, at)[0]).toContain(said);
    expect(reasonsOf((await planOf(hosted)).operations, at)[0]).toContain(said);
    const unseen = zoneOf({ ...others, [at]: { CNAME: [target] } });
    expect((await detailOf('dmarc', unseen)).message).toContain('if acme.hosted.example was meant, your DNS provider');
  });

  it.each<[string, ZoneData, string]>([
    [
      'is too weak',
      { 'x.vendor.com': txt('v=DMARC1; p=none') },
      'The DMARC record of x.vendor.com does not pass either',
    ],
    ['cannot be read', { 'x.vendor.com': txt('v=DMARC1 p=reject') }, 'The DMARC record of x.vendor.com does not pass'],
    ['is not there', {}, 'No DMARC record of x.vendor.com is known'],
  ])('of a hosted DMARC record that %s is not to be typed with the dot', async (_what, data, said) => {
    const zone = zoneOf({ ...others, ...data, [at]: { CNAME: ['x.vendor.com.acme.com'] } });
    const { message, fix } = await detailOf('dmarc', zone);
    expect(message).toContain(`: remove the CNAME, and place the record at ${at} itself.`);
    expect(message).toContain(said);
    const { operations } = await planOf(zone);
    expect(JSON.stringify([message, fix, operations])).not.toContain('dot at its end');
    expect(written(fix)).toEqual([`delete ${at} CNAME x.vendor.com.acme.com`, create.dmarc]);
  });

  it('is not suspected of one that leads to a record, or out of the zone, or to a name of one label', async () => {
    const targets: [string, ZoneData][] = [
      ['dmarc.vendor.com', {}],
      ['dmarc.acme.com', {}],
      ['a.hosted.example.acme.com', { 'a.hosted.example.acme.com': txt('v=DMARC1; p=none') }],
    ];
    for (const [target, data] of targets) {
      const zone = zoneOf({ ...others, ...data, [at]: { CNAME: [target] } });
      const { message, fix } = await detailOf('dmarc', zone);
      expect(JSON.stringify([message, fix])).not.toContain('appended');
    }
  });

  it('of a DKIM record is said by the finding, the fix and the plan', async () => {
    const name = `t2._domainkey.${d}`;
    const zone = zoneOf({ ...placed, [name]: { CNAME: ['t2.dkim.amazonses.com.acme.com'] } });
    const identity = { status: 'pending', tokens: domain.dkimTokens, verification: {} } as never;
    const resolvers = [zone.resolver, zone.resolver];
    const look = await new Verifier(resolvers, { get: () => Promise.resolve(identity) }).look(domain);
    const dkim = (await new Explainer(resolvers, []).explain(domain, look, null)).find(
      ({ check }) => check === 'dkim',
    )!;
    expect(dkim.code).toBe('dkim_pending');
    expect(dkim.message).toContain(
      `Your DNS provider has appended the zone to the target of ${name} to t2.dkim.amazonses.com.acme.com: enter each target with the dot at its end.`,
    );
    const said = 'The DNS provider has appended the zone to the target: enter t2.dkim.amazonses.com.';
    expect(reasonsOf(dkim.fix, name)[0]).toContain(said);
    expect(reasonsOf((await planOf(zone)).operations, name)[0]).toContain(said);
  });

  it.each([
    ['mx', d, 'mail.sendmux.ai'],
    ['mail_from_mx', `bounce.${d}`, 'feedback-smtp.eu-west-1.amazonses.com'],
  ])('of %s is said by the finding, the fix and the plan', async (check, name, host) => {
    const zone = zoneOf({ ...placed, [name]: { ...placed[name], MX: [`10 ${host}.acme.com`] } });
    const { message, fix } = await detailOf(check, zone);
    expect(message).toContain('your DNS provider has appended the zone to the target');
    for (const operations of [fix, (await planOf(zone)).operations])
      expect(reasonsOf(operations, name)[0]).toMatch(
        new RegExp(`has appended the zone to the target.* ${host}\\. with`),
      );
  });
});

describe('an SPF record that leads back to itself', () => {
  it.each<[string, string, string, ZoneData]>([
    ['a redirect', `redirect=${d}`, '~all', {}],
    ['an include', `include:${d} a -all`, 'a -all', {}],
    ['an include of a CNAME', 'include:spf.acme.com mx ~all', 'mx ~all', { 'spf.acme.com': { CNAME: [d] } }],
  ])('by %s is merged without it', async (_what, terms, left, data) => {
    const zone = zoneOf({ ...placed, ...data, [d]: { ...placed[d], TXT: [`v=spf1 ${terms}`] } });
    const { operations, warnings } = await planOf(zone);
    expect(written(about(operations, d))).toEqual([`replace ${d} TXT v=spf1 ${own} ${left}`]);
    expect(about(operations, d)[0]!.reason).toContain('Left out, because it leads back to this record: “');
    expect(warnings.filter(({ severity }) => severity !== 'warning')).toEqual([]);
    const { fix, warnings: told, message } = await detailOf('spf', zone);
    expect(fix).toEqual(about(operations, d));
    expect(told.filter(({ severity }) => severity === 'breaking')).toEqual([]);
    expect(message).toContain(`v=spf1 ${own} ${left}`);
    expect(await failures(zone.after(operations))).toEqual([]);
  });
});

describe('M1: an SPF record at ten look-ups', () => {
  const includes = Array.from({ length: 10 }, (_, i) => `include:n${i}.vendor.com`);
  const targets = Object.fromEntries(includes.map((_, i) => [`n${i}.vendor.com`, txt('v=spf1 ip4:198.51.100.1 -all')]));
  const at = (count: number) =>
    zoneOf({
      ...placed,
      ...targets,
      [d]: { ...placed[d], TXT: [`v=spf1 ${includes.slice(0, count).join(' ')} -all`] },
    });

  it('would have twelve after a merge: the plan, the fix and the finding say so before it is published', async () => {
    for (const count of [9, 10]) {
      const { operations, warnings } = await planOf(at(count));
      expect(warnings).toMatchObject([{ code: 'spf_too_many_lookups', severity: 'breaking' }]);
      expect(operations[0]!.reason).toContain('more than 10 look-ups');
      const { message, fix, warnings: told } = await detailOf('spf', at(count));
      expect(told).toMatchObject([{ code: 'spf_too_many_lookups', severity: 'breaking' }]);
      expect([message, fix[0]!.reason].every((text) => text.includes('more than 10 look-ups'))).toBe(true);
    }
  });

  it('is counted through the records that it leads to', async () => {
    const zone = zoneOf({
      ...placed,
      [d]: { ...placed[d], TXT: ['v=spf1 include:n.vendor.com -all'] },
      'n.vendor.com': txt(
        'v=spf1 a mx a:b.vendor.com mx:b.vendor.com ptr exists:e.vendor.com a:c.vendor.com a:d.vendor.com -all',
      ),
    });
    expect((await planOf(zone)).warnings).toMatchObject([{ code: 'spf_too_many_lookups' }]);
    expect((await detailOf('spf', zone)).warnings).toMatchObject([{ code: 'spf_too_many_lookups' }]);
  });

  it('of eight look-ups has room for both', async () => {
    const { operations, warnings } = await planOf(at(8));
    expect(warnings).toEqual([]);
    expect(operations[0]!.reason).not.toContain('look-ups');
    expect((await detailOf('spf', at(8))).warnings).toEqual([]);
  });

  it('M6: the reason names what stands behind all, and stays out', async () => {
    const record = 'v=spf1 ~include:sendmux.ai -all ip4:192.0.2.0/24';
    const zone = zoneOf({ ...placed, [d]: { ...placed[d], TXT: [record] } });
    const { operations } = await planOf(zone);
    expect(operations[0]).toMatchObject({ action: 'replace', values: [`v=spf1 ${own} -all`] });
    expect(operations[0]!.reason).toContain('nobody reads what stands behind “all”: “ip4:192.0.2.0/24”');
    expect((await detailOf('spf', zone)).fix[0]!.reason).toBe(operations[0]!.reason);
  });
});

it('an MTA-STS policy is said with an MX that it may refuse', async () => {
  const zone = zoneOf({ ...placed, [d]: { TXT: [spf] }, [`_mta-sts.${d}`]: txt('v=STSv1; id=1') });
  expect((await planOf(zone)).warnings).toMatchObject([{ code: 'mta_sts_present', severity: 'warning' }]);
  expect((await detailOf('mx', zone)).warnings).toMatchObject([{ code: 'mta_sts_present' }]);
});
