import type { Check, Expected } from './check';
import { checks, inZoneOrder } from './checks';
import { ofLastDomain } from './of-last-domain';
import type { RecordSet } from './record-set';

type OneOf = (typeof checks)[number];
type Outer<Field> = Field extends `${infer Outer}.${string}` ? Outer : Field;
type Inner<Field, Of extends string> = Field extends `${Of}.${infer Inner}` ? Inner : never;

/** The records that a customer places, by the fields of the product guide ("Required DNS records"). */
export type DnsRecords = {
  readonly [Field in Outer<OneOf['field']>]: Field extends OneOf['field']
    ? ReturnType<Extract<OneOf, { field: Field }>['entry']>
    : { readonly [C in OneOf as Inner<C['field'], Field>]: ReturnType<C['entry']> };
};

/** Gives the records of a domain as `dns_records` of the API shows them. */
export const dnsRecords: (domain: Expected) => DnsRecords = ofLastDomain(
  (domain) => byField((check) => check.entry(domain)) as unknown as DnsRecords,
);

/** What each check gives, in the form of `dns_records`: checks with a dot in their field share an object. */
export interface ByField<Given> {
  readonly [field: string]: Given | ByField<Given>;
}

/** Puts together what each check gives, by the fields of the checks. */
export function byField<Given>(give: (check: Check) => Given): ByField<Given> {
  const fields: Record<string, Given | Record<string, Given>> = {};
  for (const check of checks as readonly Check[]) {
    const [outer, inner] = check.field.split('.') as [string, string?];
    if (inner === undefined) fields[outer] = give(check);
    else ((fields[outer] ??= {}) as Record<string, Given>)[inner] = give(check);
  }
  return fields;
}

/** Gives the records that the zone of a domain has to hold, by name and type. */
export const recordSets = (domain: Expected): RecordSet[] =>
  inZoneOrder(domain).flatMap((check) => [...check.records(domain)]);
