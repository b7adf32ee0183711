import fc from 'fast-check';
import { looksLikeDmarc } from './dmarc/meant';
import { inheritedPolicy, mergeDmarc } from './dmarc/merge';
import { behindAll, leftOutOfSpf, mergeSpf } from './spf/merge';
import { isDmarc, parseDmarc } from './dmarc/record';
import { parseSpf } from './spf/record';

describe('SPF records merged into one', () => {
  it.each([
    [[], 'v=spf1 include:amazonses.com include:sendmux.ai ~all'],
    [
      ['v=spf1 include:_spf.google.com ~all'],
      'v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com ~all',
    ],
    [['v=spf1 +all'], 'v=spf1 include:amazonses.com include:sendmux.ai all'],
    // What nobody reads behind `all` authorises nobody, before and after; what is no mechanism counts wherever it
    // stands.
    [['v=spf1 -all include:late.example'], 'v=spf1 include:amazonses.com include:sendmux.ai -all'],
    [
      ['v=spf1 mx -all a ?all exp=why.acme.com redirect=x.net'],
      'v=spf1 include:amazonses.com include:sendmux.ai mx exp=why.acme.com -all',
    ],
    [['v=spf1 mx ~all -all'], 'v=spf1 include:amazonses.com include:sendmux.ai mx ~all'],
    [
      ['v=spf1 exists:%{L}.a.net exists:%{l}.a.net -all'],
      'v=spf1 include:amazonses.com include:sendmux.ai exists:%{L}.a.net exists:%{l}.a.net -all',
    ],
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

  it.each([
    ['v=spf1 ~include:sendmux.ai -all ip4:192.0.2.0/24', ['ip4:192.0.2.0/24']],
    ['v=spf1 mx ~all a include:x.net', ['a', 'include:x.net']],
    ['v=spf1 mx -all; a', ['a']],
    ['v=spf1 - all ip4:192.0.2.1', ['ip4:192.0.2.1']],
    ['v=spf1 all -ip4:192.0.2.1 exp=why.acme.com', ['-ip4:192.0.2.1']],
    ['v=spf1 -all include:amazonses.com', []],
  ])('M6: %s authorises nobody whom it does not now: %j stay out', (record, behind) => {
    expect(behindAll([record])).toEqual(behind);
    for (const term of behind) expect(mergeSpf([record]).split(' ')).not.toContain(term);
    expect(mergeSpf([record])).toMatch(/all$/);
  });

  it('are valid, and keep every sender that each could authorise', () => {
    const term = fc.constantFrom(
      'a',
      'a/24',
      'mx',
      '-mx',
      'ip4:192.0.2.1',
      'ip6:2001:db8::1',
      'include:x.net',
      '?include:y.net',
      'exists:%{i}.z.net',
      'ptr',
      'include:amazonses.com',
      '~include:sendmux.ai',
      'foo=bar',
      '-all',
      '~all',
      '?all',
      'all',
      'redirect=r.net',
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
          .flatMap((text) => {
            const written = text.split(' ').slice(1);
            const end = written.findIndex((one) => /^[-~?]?all$/.test(one));
            return end < 0 ? written : written.filter((one, i) => i < end || one === 'foo=bar');
          })
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

  it.each([
    ['v=DMARC1; p=none rua=mailto:d@acme.com', 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com'],
    ['v=DMARC1; p=none\trua=mailto:d@acme.com', 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com'],
    ['v=DMARC1, p=none, rua=mailto:d@acme.com', 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com'],
    ['v=DMARC1: p=none: rua=mailto:d@acme.com', 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com'],
    ['v=DMARC1:p:none:rua=mailto:d@acme.com', 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com'],
    ['v=DMARC1\\; p=none\\; rua=mailto:d@acme.com', 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com'],
    ['v=DMARC1\\059 p=none\\059\\032rua=mailto:d@acme.com', 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com'],
    ['v=DMARC1;\xc2\xa0p=none\xc2\xa0rua=mailto:d@acme.com', 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com'],
    ['"v=DMARC1; p=none" "rua=mailto:d@acme.com"', 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com'],
    ['v=DMARC1; p=quarantine pct=100', 'v=DMARC1; p=quarantine'],
    ['v=DMARC1; p=quarantine pct=20', 'v=DMARC1; p=quarantine; pct=20'],
    ['v=DMARC1; p=reject,pct=20', 'v=DMARC1; p=reject; pct=20'],
    [
      'v=DMARC1; p=none; rua=mailto:a@x.net, mailto:b@x.net; fo=0:1:d:s; rf=afrf x=y',
      'v=DMARC1; p=quarantine; rua=mailto:a@x.net,mailto:b@x.net; fo=0:1:d:s; rf=afrf; x=y',
    ],
    [
      'v=DMARC1; p=none; rua=https://x.net/?a=b:c=d,mailto:t=1@x.net; ruf=',
      'v=DMARC1; p=quarantine; rua=https://x.net/?a=b:c=d,mailto:t=1@x.net',
    ],
  ])('M4: %j loses no tag: %s', (text, merged) => {
    expect(looksLikeDmarc(text)).toBe(true);
    expect(mergeDmarc([text])).toBe(merged);
  });

  it.each([
    [['v=DMARC1; p=reject; sp=quarantin'], 'v=DMARC1; p=reject; sp=quarantine'],
    [['v=DMARC1; p=reject; sp=rejected'], 'v=DMARC1; p=reject; sp=reject'],
    [['v=DMARC1; p=reject; sp=x'], 'v=DMARC1; p=reject'],
    [['v=DMARC1; p=reject; sp=nonexistent'], 'v=DMARC1; p=reject'],
    [['v=DMARC1; p=quarantine; np=x'], 'v=DMARC1; p=quarantine'],
    [['v=DMARC1; p=rejec; np=none'], 'v=DMARC1; p=reject; np=none'],
    [['v=DMARC1; p=none; np=none', 'v=DMARC1; p=none; np=reject'], 'v=DMARC1; p=quarantine; np=reject'],
    [['v=DMARC1; p=none; np=none', 'v=DMARC1; p=none'], 'v=DMARC1; p=quarantine'],
    [['v=DMARC1; p=none; sp=reject; np=none', 'v=DMARC1; p=none'], 'v=DMARC1; p=quarantine; sp=reject'],
  ])('M5: of %j, policies below that nobody knows are mended or dropped: %s', (records, merged) =>
    expect(mergeDmarc(records)).toBe(merged),
  );

  it('are valid and no weaker than any of them, in each of their tags', () => {
    const tag = fc.constantFrom(
      'p=none',
      'p=quarantine',
      'p=reject',
      'sp=none',
      'sp=quarantine',
      'sp=reject',
      'np=none',
      'np=quarantine',
      'np=reject',
      'pct=0',
      'pct=50',
      'pct=100',
      't=y',
      'adkim=s',
      'aspf=r',
      'rua=mailto:a@x.net',
      'rua=mailto:b@x.net',
      'fo=1',
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
          const absent = (of: ReadonlyMap<string, string>) => strength(of.get('np') ?? of.get('sp') ?? of.get('p'));
          expect(absent(merged)).toBeGreaterThanOrEqual(absent(tags));
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
    [['v=DMARC1; p=reject; sp=quarantin'], 'none'],
    [['v=DMARC1; p=reject; p=reject'], 'none'],
    [['v=DMARC1; p=Reject; sp=Quarantine'], 'quarantine'],
  ])('%j are inherited as %s', (records, policy) => expect(inheritedPolicy(records)).toBe(policy));
});
