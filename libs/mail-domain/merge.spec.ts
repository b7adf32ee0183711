import fc from 'fast-check';
import { inheritedPolicy, looksLikeDmarc, mergeDmarc } from './merge-dmarc';
import { leftOutOfSpf, looksLikeSpf, mergeSpf } from './merge-spf';
import { isDmarc, parseDmarc } from './verdicts/dmarc';
import { parseSpf } from './verdicts/spf';

describe('SPF records merged into one', () => {
  it.each([
    [[], 'v=spf1 include:amazonses.com include:sendmux.ai ~all'],
    [
      ['v=spf1 include:_spf.google.com ~all'],
      'v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com ~all',
    ],
    [['v=spf1 +all'], 'v=spf1 include:amazonses.com include:sendmux.ai all'],
    [['v=spf1 -all include:late.example'], 'v=spf1 include:amazonses.com include:sendmux.ai include:late.example -all'],
    [['v=spf1 a redirect=x.net ~all'], 'v=spf1 include:amazonses.com include:sendmux.ai a ~all'],
    [
      ['v=spf1 exp=a.net ~all', 'v=spf1 exp=b.net ?all'],
      'v=spf1 include:amazonses.com include:sendmux.ai exp=a.net ~all',
    ],
    [['v=spf1 mx ~ all'], 'v=spf1 include:amazonses.com include:sendmux.ai mx ~all'],
    [['v=spf1 mx -all;'], 'v=spf1 include:amazonses.com include:sendmux.ai mx -all'],
    [['v=spf1 mx \xe2\x80\x94all'], 'v=spf1 include:amazonses.com include:sendmux.ai mx -all'],
    [['v=spf1 mx - ip4:192.0.2.1 all'], 'v=spf1 include:amazonses.com include:sendmux.ai mx -ip4:192.0.2.1 all'],
    [['v=spf1 A MX', 'v=spf1 a mx'], 'v=spf1 include:amazonses.com include:sendmux.ai A MX ~all'],
  ])('%j', (records, merged) => expect(mergeSpf(records)).toBe(merged));

  it.each([
    [['v=spf1 mx ip4:192.0.2.300 inlcude:a.net ~all'], ['ip4:192.0.2.300', 'inlcude:a.net']],
    [['v=spf1 a,inlcude:a.net ~all', 'v=spf1 inlcude:a.net -all'], ['inlcude:a.net']],
    [['v=spf1 include: a.net, - all'], []],
  ])('%j leave out %j, and name it', (records, leftOut) => {
    expect(leftOutOfSpf(records)).toEqual(leftOut);
    for (const term of leftOut) expect(mergeSpf(records)).not.toContain(term);
  });

  it('are valid, and keep every sender that each could authorise', () => {
    const term = fc.constantFrom(
      ...[
        'a',
        'a/24',
        'mx',
        '-mx',
        'ip4:192.0.2.1',
        'ip6:2001:db8::1',
        'include:x.net',
        '?include:y.net',
        'exists:%{i}.z.net',
      ],
      ...[
        'ptr',
        'include:amazonses.com',
        '~include:sendmux.ai',
        'foo=bar',
        '-all',
        '~all',
        '?all',
        'all',
        'redirect=r.net',
      ],
    );
    const record = fc.array(term, { maxLength: 8 }).map((terms) => ['v=spf1', ...terms].join(' '));
    fc.assert(
      fc.property(fc.array(record, { maxLength: 4 }), (records) => {
        const merged = mergeSpf(records);
        expect(parseSpf(merged)).not.toHaveProperty('syntaxError');
        const [, ...terms] = merged.split(' ');
        expect(terms.slice(0, 2)).toEqual(['include:amazonses.com', 'include:sendmux.ai']);
        expect(terms.filter((one) => /^[-~?]?all$|^redirect=/.test(one))).toEqual([terms.at(-1)]);
        const senders = records
          .flatMap((text) => text.split(' ').slice(1))
          .filter((one) => !/all$|^redirect=|amazonses|sendmux/.test(one));
        expect(terms).toEqual(expect.arrayContaining(senders));
        expect(mergeSpf([merged])).toBe(merged);
        expect(mergeSpf([...records].reverse())).toBe(merged);
      }),
    );
  });
});

describe('DMARC records merged into one', () => {
  it.each([
    [[], undefined, 'v=DMARC1; p=quarantine'],
    [[], 'none', 'v=DMARC1; p=quarantine'],
    [[], 'reject', 'v=DMARC1; p=reject'],
    [['v=DMARC1'], undefined, 'v=DMARC1; p=quarantine'],
    [['v=DMARC1; p=rejected'], undefined, 'v=DMARC1; p=reject'],
    [['v=DMARC1; p=none; p=reject'], undefined, 'v=DMARC1; p=reject'],
    [['v=DMARC1; p=none; sp=reject', 'v=DMARC1; p=quarantine'], undefined, 'v=DMARC1; p=quarantine; sp=reject'],
    [['v=DMARC1; p=none; pct=10', 'v=DMARC1; p=none'], undefined, 'v=DMARC1; p=quarantine'],
    [['v=DMARC1; p=none; pct=10', 'v=DMARC1; p=none; pct=30'], undefined, 'v=DMARC1; p=quarantine; pct=30'],
    [['v=DMARC1; p=none; t=y', 'v=DMARC1; p=none'], undefined, 'v=DMARC1; p=quarantine'],
    [['v=DMARC1; p=none; adkim=r', 'v=DMARC1; p=none; adkim=s'], undefined, 'v=DMARC1; p=quarantine; adkim=s'],
    [['v=dmarc1; p=reject'], undefined, 'v=DMARC1; p=reject'],
  ] as const)('%j, inherited %s', (records, inherited, merged) => expect(mergeDmarc(records, inherited)).toBe(merged));

  it('are valid and no weaker than any of them, in each of their tags', () => {
    const tag = fc.constantFrom(
      ...[
        'p=none',
        'p=quarantine',
        'p=reject',
        'sp=none',
        'sp=quarantine',
        'sp=reject',
        'pct=0',
        'pct=50',
        'pct=100',
        't=y',
      ],
      ...['adkim=s', 'aspf=r', 'rua=mailto:a@x.net', 'rua=mailto:b@x.net', 'fo=1'],
    );
    const record = fc
      .uniqueArray(tag, { maxLength: 6, selector: (one) => one.split('=')[0] })
      .map((tags) => ['v=DMARC1', ...tags].join('; '));
    const strength = (policy = 'none') => ['none', 'quarantine', 'reject'].indexOf(policy);
    fc.assert(
      fc.property(fc.array(record, { minLength: 1, maxLength: 3 }), (records) => {
        const text = mergeDmarc(records);
        const { tags: merged, repeated } = parseDmarc(text);
        expect([isDmarc(text), repeated, [...merged.keys()][1]]).toEqual([true, undefined, 'p']);
        expect(strength(merged.get('p'))).toBeGreaterThanOrEqual(1);
        for (const each of records) {
          const { tags } = parseDmarc(each);
          expect(strength(merged.get('p'))).toBeGreaterThanOrEqual(strength(tags.get('p')));
          const subdomains = (of: ReadonlyMap<string, string>) => strength(of.get('sp') ?? of.get('p'));
          expect(subdomains(merged)).toBeGreaterThanOrEqual(subdomains(tags));
          expect(Number(merged.get('pct') ?? 100)).toBeGreaterThanOrEqual(Number(tags.get('pct') ?? 100));
          if (merged.get('t') === 'y') expect(tags.get('t')).toBe('y');
          if (tags.get('adkim') === 's') expect(merged.get('adkim')).toBe('s');
          if (tags.has('rua')) expect(merged.get('rua')!.split(',')).toContain(tags.get('rua'));
        }
        expect(mergeDmarc([text])).toBe(text);
      }),
    );
  });

  it.each([
    [[], undefined],
    [['x'], undefined],
    [['v=DMARC1; p=reject'], 'reject'],
    [['v=DMARC1; p=reject; sp=none'], 'none'],
    [['v=DMARC1; p=none', 'v=DMARC1; p=quarantine'], 'quarantine'],
  ])('%j are inherited as %s', (records, policy) => expect(inheritedPolicy(records)).toBe(policy));
});

// Anybody may publish 64 KiB at their name; while it is read, nothing else is served.
describe('a record of 64 KiB is read in a moment', () => {
  const [blanks, marks] = [' '.repeat(64_000), `" `.repeat(32_000)];

  it.each([
    ...[`v=DMARC1; p=quarantine; x=a${blanks}b`, `v=DMARC1; p=none${blanks}b`, `v=DMARC1 p=x${blanks}!`, `a${marks}b`],
    ...[`v=spf1 mx${blanks}x`, `a${blanks}b`, `v=spf1 ${'exists:a.b '.repeat(5_800)}`],
  ])('%#', (text) => {
    const startedAt = performance.now();
    parseDmarc(text);
    looksLikeDmarc(text);
    looksLikeSpf(text);
    inheritedPolicy([text]);
    mergeDmarc([text]);
    mergeSpf([text]);
    expect(performance.now() - startedAt).toBeLessThan(1_000);
  });
});
