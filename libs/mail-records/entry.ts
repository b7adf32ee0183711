import { registrableDomain, relativeHost } from './zone';

/** A record as `dns_records` of the API shows it. */
export interface NamedValue {
  /** FQDN without the trailing dot. */
  readonly name: string;
  readonly value: string;
  /** The name relative to the registrable domain, as DNS providers ask for it; `@` at its top. */
  readonly host: string;
}

/**
 * Gives the name of a record as every answer of ours shows it to be typed: relative to the registrable domain of its
 * domain, whatever zones the DNS has in between, so that the same record has one host everywhere.
 */
export const hostOf = (domain: string, name: string): string => relativeHost(name, registrableDomain(domain));

/** @param domain whose registrable domain `host` is relative to. */
export const namedValue = (domain: string, name: string, value: string): NamedValue => ({
  name,
  value,
  host: hostOf(domain, name),
});
