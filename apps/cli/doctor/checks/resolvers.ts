import { randomUUID } from 'node:crypto';
import { DohClient, type DnsAnswer } from '@app/dns';
import { check, failed, ok, warning, type Check, type Finding } from '../check';

/** Names whose answers tell what a resolver does. */
export interface Probes {
  /** It is signed, and has name servers. */
  readonly signed: string;
  /** It has an address, and its signature is wrong on purpose. */
  readonly bogus: string;
  /** It has an address that resolvers which filter do not give. */
  readonly filtered: string;
}

/** Names that are there for such tests, of DNS operators. */
const publicProbes: Probes = { signed: 'org', bogus: 'dnssec-failed.org', filtered: 'malware.testcategory.com' };

/** Codes of answers that a resolver has made up, or withheld (RFC 8914 sections 4.5 and 4.16 to 4.19). */
const withheld: ReadonlySet<number> = new Set([4, 15, 16, 17, 18]);
/** The addresses that filters give in place of others. */
const nowhere: ReadonlySet<string> = new Set(['0.0.0.0', '127.0.0.1']);

type Answers = Readonly<Record<'canary' | 'absent' | 'signed' | 'bogus' | 'filtered', DnsAnswer<unknown>>>;

/** Asks each resolver what tells whether it can be believed. */
export const resolvers = (probes: Probes = publicProbes): Check =>
  check({
    name: 'resolver',
    needs: ['DOH_RESOLVERS', 'DOH_TIMEOUT', 'VERIFICATION_CANARY'],
    withinMs: 15_000,
    remedy: 'Look at DOH_RESOLVERS, and at the way to them.',
    run: async ({ settings }) => {
      const { DOH_RESOLVERS, DOH_TIMEOUT, VERIFICATION_CANARY } = settings;
      // Nobody can have a name below .invalid (RFC 6761 section 6.4).
      const absent = `doctor-${randomUUID()}.invalid`;
      const all = await Promise.all(
        DOH_RESOLVERS.map(async (url): Promise<[string, Answers]> => {
          const client = new DohClient({ url, timeoutMs: Math.min(DOH_TIMEOUT, 4_000), sessions: 1 });
          try {
            const [canary, gone, signed, bogus, filtered] = await Promise.all([
              client.txt(VERIFICATION_CANARY),
              client.a(absent),
              client.ns(probes.signed),
              client.a(probes.bogus),
              client.a(probes.filtered),
            ]);
            return [nameOf(url), { canary, absent: gone, signed, bogus, filtered }];
          } finally {
            client.close();
          }
        }),
      );
      const canaryIsThere = all.some(([, { canary }]) => canary.kind === 'records');
      const filteredIsThere = all.some(([, { filtered }]) => filtered.kind === 'records' && !isNowhere(filtered));
      return [
        ...all.flatMap(([of, answers]) => {
          const faults = faultsOf(answers, { canary: canaryIsThere, filtered: filteredIsThere }, VERIFICATION_CANARY);
          return faults.length > 0
            ? faults.map((fault) => ({ ...fault, of }))
            : [ok(`It finds the canary and makes nothing up; ${validation(answers)}.`, of)];
        }),
        ...(all.length < 2 ? [warning('DOH_RESOLVERS names one resolver: name two that do not share a network.')] : []),
      ];
    },
  });

const nameOf = (url: string): string => {
  const { host, pathname } = new URL(url);
  return host + pathname;
};

const isNowhere = (answer: DnsAnswer<unknown>): boolean =>
  answer.kind === 'records' && answer.records.some((record) => nowhere.has(String(record)));

const isWithheld = ({ evidence }: DnsAnswer<unknown>): boolean =>
  evidence?.extendedErrors?.some(({ code }) => withheld.has(code)) ?? false;

/** @param there which names are seen by any of the resolvers. */
function faultsOf(answers: Answers, there: { canary: boolean; filtered: boolean }, canaryName: string): Finding[] {
  const { canary, absent, signed, bogus, filtered } = answers;
  if (canary.kind === 'unreachable')
    return [failed(`It gives no answer (${canary.reason}). Name another one in DOH_RESOLVERS, or mend the way to it.`)];
  const blocks =
    Object.values(answers).some(isWithheld) ||
    isNowhere(filtered) ||
    (there.filtered && (filtered.kind === 'nxdomain' || filtered.kind === 'nodata'));
  const cases: [boolean, Finding][] = [
    [
      absent.kind === 'records',
      failed('It has an address for a name that nobody can have: it makes answers up. Name another one.'),
    ],
    [blocks, failed('It filters: customers whose names it blocks would fail. Name one that filters nothing.')],
    [
      canary.kind === 'servfail',
      failed(
        `It fails to find VERIFICATION_CANARY (SERVFAIL): look at the zone of ${canaryName}, or name another one.`,
      ),
    ],
    [
      canary.kind === 'nxdomain' || canary.kind === 'nodata',
      there.canary
        ? failed('It denies VERIFICATION_CANARY, which another one finds: it lies, or is behind. Name another one.')
        : warning(`No resolver finds VERIFICATION_CANARY: publish a TXT record at ${canaryName}, or set another name.`),
    ],
    [
      signed.kind === 'records' && signed.evidence?.authenticated !== true,
      warning('It does not say that signed answers are right (the AD bit): name one that validates DNSSEC.'),
    ],
    [bogus.kind === 'records', warning('It gives an answer whose signature is wrong: name one that validates DNSSEC.')],
  ];
  return cases.flatMap(([is, finding]) => (is ? [finding] : []));
}

/** Says what is known of how it validates, which is nothing where the names of the tests are not there. */
function validation({ signed, bogus }: Answers): string {
  if (signed.kind !== 'records') return 'whether it validates DNSSEC cannot be told here';
  if (bogus.kind !== 'servfail') return 'it validates DNSSEC';
  return bogus.evidence?.extendedErrors
    ? 'it validates DNSSEC, and says what is wrong (EDE)'
    : 'it validates DNSSEC, and does not say what is wrong (EDE)';
}
