import { getDomain } from 'tldts';

/** What was asked last: each record of a domain asks for the same name. */
let last = { name: '', domain: '' };

/**
 * Gives the name that somebody registered: `acme.com` for `mail.acme.com`, by the public suffix list with its private
 * part. Most zones begin there, but only the DNS can tell where one really begins.
 */
export function registrableDomain(name: string): string {
  if (last.name !== name) last = { name, domain: getDomain(name, { allowPrivateDomains: true }) ?? name };
  return last.domain;
}

/**
 * The most names to ask for. Of more labels, only the name and the shortest parents count, as in RFC 9989 section 4.10.
 */
const possibleZonesLimit = 8;

/**
 * Gives the names where the zone can begin: the name and its parents up to the registrable domain, the longest first,
 * eight at most.
 */
export function possibleZones(name: string): string[] {
  const labels = name.split('.');
  const count = labels.length - registrableDomain(name).split('.').length + 1;
  const all = labels.slice(0, count).map((_, i) => labels.slice(i).join('.'));
  return all.length <= possibleZonesLimit ? all : [name, ...all.slice(1 - possibleZonesLimit)];
}

/** Gives the name relative to the zone, `@` at its top: DNS providers ask for it as “host” or “name”. */
export function relativeHost(name: string, zone: string): string {
  if (name === zone) return '@';
  return name.endsWith(`.${zone}`) ? name.slice(0, -zone.length - 1) : name;
}
