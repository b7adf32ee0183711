import { getDomain } from 'tldts';

/**
 * The name under which somebody registers: `acme.com` for `mail.acme.com`, by the public suffix list with its private part.
 * Most zones begin there; where one really begins, only the DNS knows.
 */
export const registrableDomain = (name: string): string => getDomain(name, { allowPrivateDomains: true }) ?? name;

/** The name and its parents as far as the registrable domain, the longest first: where its zone can begin. */
export function possibleZones(name: string): string[] {
  const labels = name.split('.');
  const count = labels.length - registrableDomain(name).split('.').length + 1;
  return labels.slice(0, count).map((_, i) => labels.slice(i).join('.'));
}

/** What a DNS provider's form asks for as “host” or “name”: relative to the zone, `@` at its top. */
export function relativeHost(name: string, zone: string): string {
  if (name === zone) return '@';
  return name.endsWith(`.${zone}`) ? name.slice(0, -zone.length - 1) : name;
}
