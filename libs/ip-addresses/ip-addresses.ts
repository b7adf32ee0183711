import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

const globalUnicast = ipaddr.parseCIDR('2000::/3');

/** Addresses in public ranges at which the machines of a cloud provider find their platform, and nobody else does. */
const platforms = new Set(['168.63.129.16']);

/** Interface identifiers of ISATAP, which hold an IPv4 address (RFC 5214 section 6.1): the fifth and sixth group. */
const isatap = new Set(['0:5efe', '200:5efe']);

/**
 * Tells whether an address is one of a host on the public Internet: none of the IANA registries of special-purpose
 * addresses (RFC 6890), and no IPv6 address that holds an IPv4 one.
 *
 * @param address as the DNS or a socket writes it; anything else is no address.
 */
export function isPublicAddress(address: string): boolean {
  // The library also reads octal, hexadecimal and shortened forms.
  if (isIP(address) === 0 || address.includes('%')) return false;
  const parsed = ipaddr.parse(address);
  if (parsed.range() !== 'unicast' || platforms.has(parsed.toString())) return false;
  if (!(parsed instanceof ipaddr.IPv6)) return true;
  // The library takes for unicast what is not assigned, and IPv4-compatible addresses (RFC 4291 sections 2.4, 2.5.5.1).
  if (!parsed.match(globalUnicast)) return false;
  const [fifth, sixth] = parsed.parts.slice(4, 6).map((part) => part.toString(16));
  return !isatap.has(`${fifth}:${sixth}`);
}

/** Tells whether an address is one of this machine, mapped into IPv6 as well. */
export const isLoopbackAddress = (address: string): boolean =>
  isIP(address) !== 0 && ipaddr.process(address).range() === 'loopback';

/** Tells whether the host of a URL is this machine by its address, or is called `localhost`. */
export const isLoopback = (host: string): boolean => /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(host);
