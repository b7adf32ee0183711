import fc from 'fast-check';
import { sample } from '../../test/support/sample';
import { answerOf, Answers } from './answers';
import { judge } from './judge';
import type { Operation } from './operation';
import { dnsPlan, namesToRead } from './plan';
import { publishedIn, type Published } from './published';
import { recordSets } from './records';
import { wildcardProbe } from './synthesis';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const spf = 'v=spf1 include:amazonses.com include:sendmux.ai ~all';
const token = 'sendmux-verify=team_abc123';

/** A zone as name → type → values, written as operations write them. */
type Zone = Record<string, Partial<Record<Operation['type'], string[]>>>;
const d = 'mail.acme.com';
const expected = (): Zone => {
  const zone: Zone = {};
  for (const { name, type, values } of recordSets(domain)) (zone[name] ??= {})[type] = [...values];
  return zone;
};

/** A CNAME with TXT records leads to them. */
function answersIn(zone: Zone): Answers {
  const answers = new Answers();
  for (const { name } of namesToRead(domain)) {
    const { MX = [], TXT = [], CNAME = [] } = zone[name] ?? {};
    const mx = MX.map((value) => {
      const [preference, exchange] = value.split(' ') as [string, string];
      return { preference: Number(preference), exchange: exchange === '.' ? '' : exchange };
    });
    answers.set('CNAME', name, answerOf(CNAME)).set('TXT', name, answerOf(TXT, CNAME));
    answers.set('MX', name, answerOf(mx, CNAME));
  }
  return answers;
}
const published = (zone: Zone, probes = new Answers()): Published =>
  publishedIn(namesToRead(domain), answersIn(zone).with(probes));

/** What a zone's owner does with a plan, as a server would take it: a CNAME is alone at its name. */
function apply(zone: Zone, operations: readonly Operation[]): Zone {
  const after = structuredClone(zone);
  for (const { action, name, type, values, replaces } of operations) {
    const sets = (after[name] ??= {});
    const gone = action === 'delete' ? values : replaces;
    const left = (sets[type] ?? []).filter((value) => !gone.includes(value));
    const placed = action === 'create' || action === 'replace' ? [...left, ...values] : left;
    delete sets[type];
    if (placed.length > 0) sets[type] = placed;
    if (sets.CNAME && (sets.MX?.length || sets.TXT?.length)) throw new Error(`${name} has a CNAME and other records`);
    if (Object.keys(sets).length === 0) delete after[name];
  }
  return after;
}

function verdict(zone: Zone): string[] {
  const { findings } = judge(domain, answersIn(zone), 'success');
  return findings.filter(({ outcome }) => outcome !== 'pass').map(({ code }) => code);
}

const steps = (plan: readonly Operation[]) =>
  plan
    .filter(({ action }) => action !== 'keep')
    .map(({ action, name, type, values, replaces }) =>
      [action, name.slice(0, -d.length) || '@', type, replaces.join(' + '), values.join(' + ')]
        .filter(Boolean)
        .join(' '),
    );

describe('a plan', () => {
  it('of what is published already keeps all of it', () => {
    const plan = dnsPlan(domain, published(expected()));
    expect(plan.map(({ action, ttl }) => [action, ttl])).toEqual(recordSets(domain).map(() => ['keep', null]));
    expect(plan.map(({ name, type, values }) => ({ name, type, values }))).toEqual(recordSets(domain));
  });

  it('names the terms that a merged SPF record has lost', () => {
    const why = (text: string) =>
      dnsPlan(domain, published({ [d]: { TXT: [text] } })).find(({ values }) => values[0]?.startsWith('v=spf1'))!
        .reason;
    expect(why('v=spf1 inlcude:a.net ip4:192.0.2.300 ~all')).toContain(
      'Left out, because no receiver can read it: “inlcude:a.net”, “ip4:192.0.2.300”.',
    );
    expect(why('v=spf1 include:a.net ~all')).not.toContain('Left out');
  });

  it('M9: says what to type where the provider appends the zone to targets', () => {
    const at = `token1._domainkey.${d}`;
    const zone = { [d]: { MX: [`10 mail.sendmux.ai.${d}`] }, [at]: { CNAME: [`token1.dkim.amazonses.com.${d}`] } };
    const replaced = dnsPlan(domain, published(zone)).filter(({ action }) => action === 'replace');
    expect(replaced.map(({ reason }) => / enter (\S+) with the dot at its end/.exec(reason)?.[1])).toEqual([
      'mail.sendmux.ai.',
      'token1.dkim.amazonses.com.',
    ]);
  });

  it('of an empty zone creates all records', () => {
    const plan = dnsPlan(domain, published({}));
    expect(plan.map(({ action, ttl }) => [action, ttl])).toEqual(recordSets(domain).map(() => ['create', 300]));
    expect(plan.map(({ name, type, values }) => ({ name, type, values }))).toEqual(recordSets(domain));
  });

  const states: [string, Zone, string[]][] = [
    [
      'C5 replaces our MX of another priority',
      { [d]: { MX: ['20 mail.sendmux.ai'], TXT: [spf] } },
      ['replace @ MX 20 mail.sendmux.ai 10 mail.sendmux.ai'],
    ],
    [
      'C7 deletes the MX of another provider, once ours is there',
      { [d]: { MX: ['10 aspmx.l.google.com'], TXT: [spf] } },
      ['create @ MX 10 mail.sendmux.ai', 'delete @ MX 10 aspmx.l.google.com'],
    ],
    [
      'C8 deletes an MX that comes first',
      { [d]: { MX: ['10 mail.sendmux.ai', '1 aspmx.l.google.com'], TXT: [spf] } },
      ['delete @ MX 1 aspmx.l.google.com'],
    ],
    [
      'C9 deletes an MX that shares the mail',
      { [d]: { MX: ['10 mail.sendmux.ai', '10 mx.other.net'], TXT: [spf] } },
      ['delete @ MX 10 mx.other.net'],
    ],
    [
      'MAIL FROM: leaves the MX of SES alone, and merges the SPF record',
      {
        [`bounce.${d}`]: {
          MX: ['10 feedback-smtp.eu-west-1.amazonses.com', '20 mx.other.net'],
          TXT: ['v=spf1 include:other.net -all', 'hello'],
        },
      },
      [
        'delete bounce. MX 20 mx.other.net',
        'replace bounce. TXT v=spf1 include:other.net -all v=spf1 include:amazonses.com include:other.net -all',
      ],
    ],
    [
      'MAIL FROM: replaces the MX of another service',
      { [`bounce.${d}`]: { MX: ['10 mx.other.net'], TXT: ['v=spf1 include:amazonses.com -all'] } },
      ['replace bounce. MX 10 mx.other.net 10 feedback-smtp.eu-west-1.amazonses.com'],
    ],
    [
      'MAIL FROM: removes a CNAME once, for both records',
      { [`bounce.${d}`]: { CNAME: ['bounces.other.net'] } },
      [
        'delete bounce. CNAME bounces.other.net',
        'create bounce. MX 10 feedback-smtp.eu-west-1.amazonses.com',
        'create bounce. TXT v=spf1 include:amazonses.com ~all',
      ],
    ],
    ['C10 keeps a backup MX', { [d]: { MX: ['10 mail.sendmux.ai', '20 backup.other.net'], TXT: [spf] } }, []],
    [
      'C12 keeps our host at a worse rank',
      { [d]: { MX: ['10 mail.sendmux.ai', '20 mail.sendmux.ai'], TXT: [spf] } },
      [],
    ],
    [
      'M9: replaces our MX to which the provider has appended the zone',
      { [d]: { MX: [`10 mail.sendmux.ai.${d}`, '20 mail.sendmux.ai.acme.com'], TXT: [spf] } },
      ['replace @ MX 10 mail.sendmux.ai.mail.acme.com + 20 mail.sendmux.ai.acme.com 10 mail.sendmux.ai'],
    ],
    [
      'M9: deletes one beside ours, whatever its rank',
      { [d]: { MX: ['10 mail.sendmux.ai', `20 mail.sendmux.ai.${d}`], TXT: [spf] } },
      [`delete @ MX 20 mail.sendmux.ai.${d}`],
    ],
    [
      'M9: replaces a DKIM target to which the provider has appended the zone',
      { [`token1._domainkey.${d}`]: { CNAME: ['token1.dkim.amazonses.com.acme.com'] } },
      ['replace token1._domainkey. CNAME token1.dkim.amazonses.com.acme.com token1.dkim.amazonses.com'],
    ],
    [
      'M9: replaces the host of bounces to which the provider has appended the zone',
      {
        [`bounce.${d}`]: {
          MX: [`10 feedback-smtp.eu-west-1.amazonses.com.${d}`],
          TXT: ['v=spf1 include:amazonses.com ~all'],
        },
      },
      [`replace bounce. MX 10 feedback-smtp.eu-west-1.amazonses.com.${d} 10 feedback-smtp.eu-west-1.amazonses.com`],
    ],
    [
      'M10: replaces an ownership record with an escape in it',
      { [`_sendmux.${d}`]: { TXT: ['sendmux-verify\\=team_abc123'] } },
      ['replace _sendmux. TXT sendmux-verify\\=team_abc123 sendmux-verify=team_abc123'],
    ],
    [
      'M10: merges an SPF record with escapes in it',
      { [d]: { MX: ['10 mail.sendmux.ai'], TXT: ['v=spf1 include:_spf.google.com\\032\\-all'] } },
      [
        'replace @ TXT v=spf1 include:_spf.google.com\\032\\-all v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com -all',
      ],
    ],
    [
      'C13 deletes a null MX',
      { [d]: { MX: ['0 .'], TXT: [spf] } },
      ['delete @ MX 0 .', 'create @ MX 10 mail.sendmux.ai'],
    ],
    [
      'C19 deletes a CNAME at the name first',
      { [d]: { CNAME: ['ghs.google.com'] } },
      ['delete @ CNAME ghs.google.com', 'create @ MX 10 mail.sendmux.ai', `create @ TXT ${spf}`],
    ],
    [
      'D6 merges our includes into the SPF record there',
      { [d]: { MX: ['10 mail.sendmux.ai'], TXT: ['v=spf1 include:amazonses.com ip4:192.0.2.0/24 -all', 'other=1'] } },
      [
        'replace @ TXT v=spf1 include:amazonses.com ip4:192.0.2.0/24 -all v=spf1 include:amazonses.com include:sendmux.ai ip4:192.0.2.0/24 -all',
      ],
    ],
    [
      'D8 makes one SPF record of two',
      { [d]: { MX: ['10 mail.sendmux.ai'], TXT: [spf, 'v=spf1 include:_spf.google.com -all'] } },
      [
        `replace @ TXT v=spf1 include:_spf.google.com -all + ${spf} v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com -all`,
      ],
    ],
    [
      'D13 replaces what is no SPF record for a leading space',
      { [d]: { MX: ['10 mail.sendmux.ai'], TXT: [' v=spf1 a ~all'] } },
      ['replace @ TXT  v=spf1 a ~all v=spf1 include:amazonses.com include:sendmux.ai a ~all'],
    ],
    [
      'D16 mends a space after the colon',
      { [d]: { MX: ['10 mail.sendmux.ai'], TXT: ['v=spf1 include: _spf.google.com ~all'] } },
      [
        'replace @ TXT v=spf1 include: _spf.google.com ~all v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com ~all',
      ],
    ],
    [
      'D18 mends commas',
      { [d]: { MX: ['10 mail.sendmux.ai'], TXT: ['v=spf1 include:a.example,include:sendmux.ai ~all'] } },
      [
        'replace @ TXT v=spf1 include:a.example,include:sendmux.ai ~all v=spf1 include:amazonses.com include:sendmux.ai include:a.example ~all',
      ],
    ],
    [
      'D19 takes the qualifier off',
      { [d]: { MX: ['10 mail.sendmux.ai'], TXT: ['v=spf1 -include:amazonses.com ?include:sendmux.ai ~all'] } },
      [`replace @ TXT v=spf1 -include:amazonses.com ?include:sendmux.ai ~all ${spf}`],
    ],
    [
      'D26 puts our includes before a redirect',
      { [d]: { MX: ['10 mail.sendmux.ai'], TXT: ['v=spf1 redirect=_spf.acme.com'] } },
      [
        'replace @ TXT v=spf1 redirect=_spf.acme.com v=spf1 include:amazonses.com include:sendmux.ai redirect=_spf.acme.com',
      ],
    ],
    [
      'makes an include of a redirect beside another record',
      { [d]: { MX: ['10 mail.sendmux.ai'], TXT: ['v=spf1 redirect=_spf.acme.com', 'v=spf1 a ?all'] } },
      [
        'replace @ TXT v=spf1 a ?all + v=spf1 redirect=_spf.acme.com v=spf1 include:amazonses.com include:sendmux.ai a include:_spf.acme.com ?all',
      ],
    ],
    [
      'B6 leaves another team’s token where it is',
      { [`_sendmux.${d}`]: { TXT: ['sendmux-verify=team_zzz'] } },
      [`create _sendmux. TXT ${token}`],
    ],
    [
      'B7 replaces a token without its prefix',
      { [`_sendmux.${d}`]: { TXT: ['team_abc123'] } },
      [`replace _sendmux. TXT team_abc123 ${token}`],
    ],
    [
      'B8 replaces a token in capitals',
      { [`_sendmux.${d}`]: { TXT: ['sendmux-verify=TEAM_ABC123'] } },
      [`replace _sendmux. TXT sendmux-verify=TEAM_ABC123 ${token}`],
    ],
    [
      'B10 replaces literal quotes',
      { [`_sendmux.${d}`]: { TXT: [`"${token}"`] } },
      [`replace _sendmux. TXT "${token}" ${token}`],
    ],
    [
      'B18 deletes a CNAME in the place of the token',
      { [`_sendmux.${d}`]: { CNAME: ['x.other.net'] } },
      ['delete _sendmux. CNAME x.other.net', `create _sendmux. TXT ${token}`],
    ],
    [
      'E5 strengthens p=none and keeps the reports',
      { [`_dmarc.${d}`]: { TXT: ['v=DMARC1; p=none; rua=mailto:d@acme.com; pct=50'] } },
      [
        'replace _dmarc. TXT v=DMARC1; p=none; rua=mailto:d@acme.com; pct=50 v=DMARC1; p=quarantine; pct=50; rua=mailto:d@acme.com',
      ],
    ],
    ['E4 keeps p=reject', { [`_dmarc.${d}`]: { TXT: ['v=DMARC1; p=reject'] } }, []],
    [
      'E11 mends missing semicolons',
      { [`_dmarc.${d}`]: { TXT: ['v=DMARC1 p=reject rua=mailto:d@acme.com'] } },
      ['replace _dmarc. TXT v=DMARC1 p=reject rua=mailto:d@acme.com v=DMARC1; p=reject; rua=mailto:d@acme.com'],
    ],
    [
      'E14 makes one DMARC record of two, the stronger',
      {
        [`_dmarc.${d}`]: {
          TXT: ['v=DMARC1; p=none; sp=none; rua=mailto:a@x.net', 'v=DMARC1; p=reject; rua=mailto:b@x.net'],
        },
      },
      [
        'replace _dmarc. TXT v=DMARC1; p=none; sp=none; rua=mailto:a@x.net + v=DMARC1; p=reject; rua=mailto:b@x.net v=DMARC1; p=reject; rua=mailto:a@x.net,mailto:b@x.net',
      ],
    ],
    [
      'E23 is no weaker than what is inherited',
      { '_dmarc.acme.com': { TXT: ['v=DMARC1; p=reject'] }, [`_dmarc.${d}`]: {} },
      ['create _dmarc. TXT v=DMARC1; p=reject'],
    ],
    [
      'E23 goes by sp= of what is inherited',
      { '_dmarc.acme.com': { TXT: ['v=DMARC1; p=reject; sp=none'] }, [`_dmarc.${d}`]: {} },
      ['create _dmarc. TXT v=DMARC1; p=quarantine'],
    ],
    [
      'F12 replaces a wrong DKIM target',
      { [`token1._domainkey.${d}`]: { CNAME: ['token1.dkim.eu-west-1.amazonses.com'] } },
      ['replace token1._domainkey. CNAME token1.dkim.eu-west-1.amazonses.com token1.dkim.amazonses.com'],
    ],
    [
      'deletes a TXT in the place of a DKIM CNAME',
      { [`token2._domainkey.${d}`]: { TXT: ['token2.dkim.amazonses.com'] } },
      [
        'delete token2._domainkey. TXT token2.dkim.amazonses.com',
        'create token2._domainkey. CNAME token2.dkim.amazonses.com',
      ],
    ],
  ];
  it.each(states)('%s', (_what, broken, wanted) => {
    const zone = { ...expected(), ...broken };
    const plan = dnsPlan(domain, published(zone));
    expect(steps(plan)).toEqual(wanted);
    const after = apply(zone, plan);
    expect(verdict(after)).toEqual([]);
    expect(steps(dnsPlan(domain, published(after)))).toEqual([]);
  });

  it('E22 keeps a hosted DMARC record that is strong enough, and takes the place of one that is not', () => {
    const at = `_dmarc.${d}`;
    const hosted = (txt: string) =>
      dnsPlan(domain, published({ ...expected(), [`_dmarc.${d}`]: { CNAME: ['x.vendor.net'], TXT: [txt] } }));
    expect(hosted('v=DMARC1; p=reject')).toContainEqual(
      expect.objectContaining({ action: 'keep', name: at, type: 'CNAME', values: ['x.vendor.net'] }),
    );
    expect(steps(hosted('v=DMARC1; p=none; rua=mailto:v@vendor.net'))).toEqual([
      'delete _dmarc. CNAME x.vendor.net',
      'create _dmarc. TXT v=DMARC1; p=quarantine; rua=mailto:v@vendor.net',
    ]);
  });

  it('C20 creates what only a wildcard gives, since the wildcard ends with the first record of the name', () => {
    const mx = answerOf([{ preference: 10, exchange: 'mail.sendmux.ai' }]);
    const probes = new Answers().set('MX', `${wildcardProbe}.*.${d}`, mx);
    const plan = dnsPlan(domain, published({ [d]: { MX: ['10 mail.sendmux.ai'] } }, probes));
    expect(steps(plan)).toContain('create @ MX 10 mail.sendmux.ai');
    expect(plan[0]!.reason).toContain('The wildcard *.acme.com answers for mail.acme.com now');
    const beside = new Answers().set('MX', `${wildcardProbe}.*.${d}`, answerOf([]));
    expect(steps(dnsPlan(domain, published(expected(), beside)))).toEqual([]);
  });

  it('whatever is published: applied, it verifies, keeps the rest, weakens nothing, and then has nothing left to do', () => {
    const host = fc.constantFrom('mail.sendmux.ai', 'aspmx.l.google.com', 'mx.other.net', '203.0.113.9', '.');
    const mx = fc.tuple(fc.constantFrom(0, 1, 10, 11, 20), host).map(([preference, name]) => `${preference} ${name}`);
    const term = fc.constantFrom(
      'include:amazonses.com',
      'include:sendmux.ai',
      '-include:sendmux.ai',
      'include:sendmux.ai.',
      'a',
      'mx',
      'a/24',
      'include:_spf.google.com',
      'ip4:192.0.2.1',
      'ip6:2001:db8::/32',
      'exists:%{i}.x.net',
      'foo:bar',
      'foo=bar',
      'ip4:x',
      'redirect=_spf.acme.com',
      'exp=why.acme.com',
      '-all',
      '~all',
      '?all',
      '+all',
      'all',
      'include:',
      'a,mx',
      '\tmx',
    );
    const spfText = fc
      .tuple(
        fc.constantFrom('v=spf1', 'V=SPF1', ' v=spf1', '"v=spf1'),
        fc.array(term, { maxLength: 6 }),
        fc.constantFrom(' ', '  '),
      )
      .map(([version, terms, space]) => [version, ...terms].join(space));
    const tag = fc.constantFrom(
      'p=none',
      'p=quarantine',
      'p=reject',
      'P=Reject',
      'p=quarantined',
      'sp=none',
      'sp=reject',
      'pct=0',
      't=y',
      'rua=mailto:a@x.net',
      'rua=mailto:b@x.net',
      'adkim=s',
      'foo=bar',
      '',
      'broken',
    );
    const dmarcText = fc
      .tuple(
        fc.constantFrom('v=DMARC1', 'V = DMARC1', 'v=dmarc1', ' v=DMARC1', '"v=DMARC1'),
        fc.array(tag, { maxLength: 6 }),
        fc.constantFrom(';', '; ', ' '),
      )
      .map(([version, tags, separator]) => [version, ...tags].join(separator));
    const junk = fc.constantFrom('google-site-verification=x', 'v=spf10 a', 'v=DMARC12', '', 'a"b\\c', '\xff');
    const tokens = fc.constantFrom(
      token,
      'team_abc123',
      `"${token}"`,
      `${token} `,
      token.toUpperCase(),
      'sendmux-verify=team_zzz',
    );
    const name = (types: Record<string, fc.Arbitrary<string[]>>): fc.Arbitrary<Zone[string]> =>
      fc.oneof(
        { weight: 4, arbitrary: fc.record(types) },
        { weight: 1, arbitrary: fc.constant<Zone[string]>({ CNAME: ['x.other.net'] }) },
      );
    const txt = (...of: fc.Arbitrary<string>[]) => fc.uniqueArray(fc.oneof(...of), { maxLength: 4 });
    const target = fc.constantFrom('token1.dkim.amazonses.com', 'token1.dkim.example.net');
    const zones: fc.Arbitrary<Zone> = fc.record({
      [d]: name({ MX: fc.uniqueArray(mx, { maxLength: 4 }), TXT: txt(spfText, junk) }),
      [`_sendmux.${d}`]: name({ TXT: txt(tokens, junk) }),
      [`_dmarc.${d}`]: name({ TXT: txt(dmarcText, junk) }),
      [`token1._domainkey.${d}`]: fc.oneof(
        target.map((one) => ({ CNAME: [one] })),
        fc.record({ TXT: txt(junk) }),
      ),
      '_dmarc.acme.com': fc.record({ TXT: txt(dmarcText) }),
    });
    const strength = (text: string) => (/p=\s*reject/i.test(text) ? 2 : 1);
    fc.assert(
      fc.property(zones, (zone: Zone) => {
        const plan = dnsPlan(domain, published(zone));
        const after = apply(zone, plan);
        expect(verdict(after)).toEqual([]);
        const again = dnsPlan(domain, published(after));
        expect(steps(again)).toEqual([]);
        for (const one of domain.dkimTokens)
          expect(after[`${one}._domainkey.${d}`]).toMatchObject({ CNAME: [`${one}.dkim.amazonses.com`] });
        const unrelated = (zone[d]!.TXT ?? []).filter((text) => !/v=spf1( |$)/i.test(text));
        expect(after[d]!.TXT).toEqual(expect.arrayContaining(unrelated.filter((text) => !/spf1\t/.test(text))));
        // The strongest p= of the records there, or of what was inherited where there was none.
        const before = (zone[`_dmarc.${d}`]!.TXT ?? []).filter(
          (text) => /(^|[; ])p=reject/i.test(text) && /^v ?= ?DMARC1 ?;/i.test(text),
        );
        if (before.length > 0) expect(Math.max(...after[`_dmarc.${d}`]!.TXT!.map(strength))).toBe(2);
      }),
      { numRuns: sample(600, 2_000) },
    );
  });

  it('is the same whatever order the records come in', () => {
    const txt = ['v=spf1 a -all', 'v=spf1 mx ~all', 'x', 'v=spf1 include:_spf.google.com'];
    fc.assert(
      fc.property(fc.shuffledSubarray(txt, { minLength: txt.length }), (shuffled) => {
        const plan = dnsPlan(domain, published({ [d]: { TXT: shuffled } }));
        expect(plan).toEqual(dnsPlan(domain, published({ [d]: { TXT: txt } })));
      }),
    );
  });
});
