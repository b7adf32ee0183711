import { isIP, isIPv6, type BlockList } from 'node:net';
import { isLoopback, isLoopbackAddress, isPublicAddress } from '@app/ip-addresses';

export { isPublicAddress };

/** Thrown for a URL or an address to which nothing is delivered; the message is a sentence for the customer. */
export class TargetRefused extends Error {
  override readonly name = 'TargetRefused';
}

export interface TargetOptions {
  /** Whether `http://` and this machine are allowed: for development only. */
  readonly allowLoopback: boolean;
  /** Addresses of the operator on the public Internet, to which nothing is delivered either. */
  readonly denied?: BlockList | undefined;
}

/** The most characters of a URL. */
const longest = 2_048;

/** Names that the DNS of the Internet does not have (RFC 6761, 6762, 7686, 8375, 9476, and `internal` by ICANN). */
const specialNames = /(^|\.)(localhost|local|localdomain|internal|intranet|invalid|onion|alt|home\.arpa)$/;

/** A name of at least two labels, as the URL parser gives it. */
const nameForm = /^(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * Checks a URL to which a customer wants messages delivered, without asking the DNS: its addresses are checked when
 * they are connected to.
 *
 * @returns the URL in its normal form: a name of another script in ASCII, an address in its usual notation.
 * @throws {TargetRefused}
 */
export function checkedUrl(text: string, options: TargetOptions): URL {
  const { allowLoopback } = options;
  if (text.length > longest) throw new TargetRefused(`The URL must have at most ${longest} characters.`);
  // The parser drops tabs and line ends, and trims blanks.
  if (/[\s\p{Cc}\\]/u.test(text))
    throw new TargetRefused('The URL must have no blanks, control characters or backslashes: percent-encode them.');
  if (!URL.canParse(text)) throw new TargetRefused('The URL must be absolute, such as https://example.com/webhooks.');
  const url = new URL(text);
  const { protocol, hostname, port } = url;
  if (protocol !== 'https:' && !(allowLoopback && protocol === 'http:'))
    throw new TargetRefused('The URL must begin with https://.');
  if (url.username !== '' || url.password !== '' || /^[^:]*:\/\/[^/?#]*@/.test(text))
    throw new TargetRefused('The URL must have no user and no password: verify the signature instead.');
  if (text.includes('#')) throw new TargetRefused('The URL must have no fragment (#…): it is never sent.');
  const isHttps = protocol === 'https:';
  const used = Number(port || (isHttps ? 443 : 80));
  if (used < 1_024 && !(isHttps && used === 443))
    throw new TargetRefused(
      `The port of the URL must be ${isHttps ? '443, or ' : ''}between 1024 and 65535. It is ${used}${port === '' ? ', since the URL names none' : ''}.`,
    );
  checkHost(hostname, options);
  return url;
}

function checkHost(hostname: string, options: TargetOptions): void {
  if (options.allowLoopback && isLoopback(hostname)) return;
  const address = hostname.replace(/^\[|\]$/g, '');
  if (isIP(address) !== 0) checkAddresses(hostname, [address], options);
  else if (specialNames.test(hostname.replace(/\.$/, '')))
    throw new TargetRefused(`The URL must name a host on the public Internet, which ${hostname} is not.`);
  else if (!nameForm.test(hostname))
    throw new TargetRefused('The host of the URL must be a full name in the DNS, such as hooks.example.com.');
}

/**
 * Checks the addresses of a host: all must be those of hosts on the public Internet, and none may be denied, since
 * whoever holds the name chooses which one is used.
 *
 * @throws {TargetRefused}
 */
export function checkAddresses(
  host: string,
  addresses: readonly string[],
  { allowLoopback, denied }: TargetOptions,
): void {
  const isAllowed = (address: string) => isPublicAddress(address) || (allowLoopback && isLoopbackAddress(address));
  const refused = addresses.find((address) => !isAllowed(address));
  if (refused !== undefined)
    throw new TargetRefused(`${host} has the address ${refused}, which is not on the public Internet.`);
  const ours = addresses.find((address) => denied?.check(address, isIPv6(address) ? 'ipv6' : 'ipv4'));
  if (ours !== undefined) throw new TargetRefused(`${host} has the address ${ours}, to which nothing is delivered.`);
}
