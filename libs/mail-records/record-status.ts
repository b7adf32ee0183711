/** Says of each record of a domain what the last look has seen of it. Pure. */
import type { Check, Expected } from './check';
import { inZoneOrder } from './checks';
import { unseen } from './checks/finding';
import { hostOf } from './entry';
import type { Finding } from './findings';
import { ofLastDomain } from './of-last-domain';
import { setUpTtl, type RecordSet } from './record-set';

/**
 * `verified`: it is in place. `missing`: it is not there; Amazon SES, which looks for the DKIM records, has not seen
 * it. `wrong`: another one is there. `propagating`: resolvers still give different answers. `not_checked`: no look has
 * asked for it, or none had an answer.
 */
export const recordStatuses = ['verified', 'missing', 'wrong', 'propagating', 'not_checked'] as const;
export type RecordStatus = (typeof recordStatuses)[number];

/** The parts of a finding that tell the status of its records. */
export type SeenFinding = Pick<Finding, 'check' | 'outcome' | 'code' | 'expected' | 'observed'>;

/** One record to place, with what the last look has seen of it. */
export interface RecordWithStatus {
  readonly type: RecordSet['type'];
  /** FQDN without the trailing dot. */
  readonly name: string;
  /** The name relative to the registrable domain; `@` at its top. */
  readonly host: string;
  readonly value: string;
  /** The time to live that is advised, in seconds. */
  readonly ttl: number;
  /** The name of the check that wants it. */
  readonly purpose: string;
  readonly status: RecordStatus;
  /** The code of the finding; null where there is none. */
  readonly code: string | null;
  /** The values that were there instead, or beside it. */
  readonly observed: readonly string[];
}

/** Observed values of a finding that are kept with a domain, and the characters that are kept of each. */
export const seenLimits = { values: 4, characters: 512 } as const;

/** Reduces a finding to what is kept of it with a domain. */
export const seenFinding = ({ check, outcome, code, expected, observed }: Finding): SeenFinding => ({
  check,
  outcome,
  code,
  expected,
  observed: observed.slice(0, seenLimits.values).map((value) => value.slice(0, seenLimits.characters)),
});

/**
 * Gives the records of a domain in the order of the zone.
 *
 * @param findings of the last recorded look; none before the first. One of records that the domain no longer wants,
 * such as DKIM records from before a repair, says nothing of those that it wants.
 */
export const recordsWithStatus = (domain: Expected, findings: readonly SeenFinding[]): RecordWithStatus[] =>
  wantedRecords(domain).map(({ check, type, name, host, value }) => {
    const finding = findings.find((each) => each.check === check.name && isAbout(each, name, value));
    return {
      type,
      name,
      host,
      value,
      ttl: setUpTtl,
      purpose: check.name,
      status: finding ? statusOf(check, finding) : 'not_checked',
      code: finding?.code ?? null,
      observed: finding?.observed ?? [],
    };
  });

/** Gives each record that a domain wants, one value each, with the check that wants it. */
const wantedRecords = ofLastDomain((domain) =>
  inZoneOrder(domain).flatMap((check) =>
    check
      .records(domain)
      .flatMap(({ type, name, values }) =>
        values.map((value) => ({ check, type, name, host: hostOf(domain.name, name), value })),
      ),
  ),
);

/** Whether a finding is about a record: it names its value, or, where it is about several records, its name. */
const isAbout = ({ expected }: SeenFinding, name: string, value: string): boolean =>
  expected === value || expected.includes(`${name} `);

/** The codes of what keeps a record from being placed, where no record was observed. */
const inTheWay: ReadonlySet<string> = new Set(['cname_at_name', 'cname_loop', 'dname_above']);

function statusOf(check: Check, { outcome, code, observed }: SeenFinding): RecordStatus {
  if (outcome === 'pass') return 'verified';
  if (code === 'resolver_disagreement') return 'propagating';
  if (outcome === 'indeterminate' || unseen.has(code) || check.isOurs?.({ code })) return 'not_checked';
  if (check.faults[code] === 'missing') return 'missing';
  return observed.length > 0 || inTheWay.has(code) ? 'wrong' : 'missing';
}
