/**
 * Gives a name of the DNS as the editor of its zone takes it: `@` at the top of the zone, relative below it, and whole,
 * with a dot at its end, outside of it (RFC 1035 section 5.1).
 */
export function nameInZone(name: string, zone: string): string {
  const [own, top] = [canonical(name), canonical(zone)];
  if (own === top) return '@';
  return own.endsWith(`.${top}`) ? own.slice(0, -top.length - 1) : `${own}.`;
}

const canonical = (name: string): string => (name.endsWith('.') ? name.slice(0, -1) : name).toLowerCase();

/** Gives the zone that a record's `host` is relative to; its name ends with the zone unless they are the same. */
export function zoneOf({ name, host }: { readonly name: string; readonly host: string }): string {
  if (host === '@') return name;
  return name.startsWith(`${host}.`) ? name.slice(host.length + 1) : name;
}

/** Whether a text may be the address of a page of others: it comes from the API, and runs nothing when followed. */
export function isPageAddress(text: string): boolean {
  try {
    return ['https:', 'http:'].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}
