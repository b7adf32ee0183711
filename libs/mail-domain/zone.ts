import { getDomain } from 'tldts';

/**
 * The name under which somebody registers: `acme.com` for `mail.acme.com`, by the public suffix list with its private part.
 * Most zones begin there; where one really begins, only the DNS knows.
 */
export const registrableDomain = (name: string): string => getDomain(name, { allowPrivateDomains: true }) ?? name;

/** Names that are asked for one name: a long one is looked at at its top and at its bottom (as RFC 9989 section 4.10 does). */
const possibleZonesLimit = 8;

/** The name and its parents as far as the registrable domain, the longest first, eight at most: where its zone can begin. */
export function possibleZones(name: string): string[] {
  const labels = name.split('.');
  const count = labels.length - registrableDomain(name).split('.').length + 1;
  const all = labels.slice(0, count).map((_, i) => labels.slice(i).join('.'));
  return all.length <= possibleZonesLimit ? all : [name, ...all.slice(1 - possibleZonesLimit)];
}

/** What a DNS provider's form asks for as “host” or “name”: relative to the zone, `@` at its top. */
export function relativeHost(name: string, zone: string): string {
  if (name === zone) return '@';
  return name.endsWith(`.${zone}`) ? name.slice(0, -zone.length - 1) : name;
}
