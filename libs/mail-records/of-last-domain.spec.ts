import fc from 'fast-check';
import type { Expected } from './check';
import { checksOf } from './checks';
import { ofLastDomain } from './of-last-domain';
import { byField, dnsRecords } from './records';
import { recordsWithStatus } from './record-status';

const domains = fc.record({
  name: fc.constantFrom('mail.acme.com', 'acme.com'),
  mode: fc.constantFrom('send_receive' as const, 'send_only' as const, undefined),
  team: fc.constantFrom('team_a', 'team_b'),
  dkimTokens: fc.constantFrom(['a', 'b', 'c'], ['d', 'e', 'f']),
  dkimZone: fc.constantFrom('dkim.amazonses.com', 'dkim.eu-west-1.amazonses.com'),
  sesRegion: fc.constantFrom('eu-west-1', 'us-east-1'),
});

it('makes once what is asked for a domain in a row, and anew when any field of it differs', () => {
  let made = 0;
  const of = ofLastDomain((domain) => (made++, JSON.stringify(domain)));
  fc.assert(
    fc.property(domains, domains, (first, second) => {
      expect(of(first)).toBe(JSON.stringify(first));
      const before = made;
      expect(of({ ...first })).toBe(JSON.stringify(first));
      expect(made).toBe(before);
      expect(of(second)).toBe(JSON.stringify(second));
    }),
  );
});

it('gives each domain its own records, whichever was asked for before', () => {
  const fresh = (domain: Expected) => byField((check) => check.entry(domain));
  fc.assert(
    fc.property(fc.array(domains, { minLength: 2, maxLength: 6 }), (asked) => {
      for (const domain of asked) {
        expect(dnsRecords(domain)).toEqual(fresh(domain));
        const wanted = checksOf(domain).flatMap((check) => check.records(domain).flatMap(({ values }) => values));
        const values = recordsWithStatus(domain, []).map(({ value }) => value);
        expect([...values].sort()).toEqual([...wanted].sort());
      }
    }),
  );
});
