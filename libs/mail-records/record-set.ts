/** All records of one name and type. */
export interface RecordSet {
  /** FQDN without the trailing dot. */
  readonly name: string;
  readonly type: 'MX' | 'TXT' | 'CNAME';
  /** As the API shows them: `10 mail.sendmux.ai`; the target of a CNAME; a TXT with one character per byte. */
  readonly values: readonly string[];
}

/** The TTL that the guide advises while a domain is set up, in seconds. */
export const setUpTtl = 300;

/** The most octets that one character-string can hold (RFC 1035 section 3.3). */
const stringLimit = 255;

/** Splits the value of a TXT record into its character-strings. */
export const characterStrings = (value: string): string[] =>
  value === '' ? [''] : (value.match(new RegExp(`[^]{1,${stringLimit}}`, 'g')) ?? []);

/**
 * Writes a value in the format of a master file (RFC 1035 section 5.1): names with their dot, strings quoted, other
 * octets as `\DDD`.
 */
export function rdata(type: RecordSet['type'], value: string): string {
  if (type !== 'TXT') return value.endsWith('.') ? value : `${value}.`;
  return characterStrings(value)
    .map((text) => `"${escaped(text).replace(/"/g, '\\"')}"`)
    .join(' ');
}

/** Writes the backslash and octets that are not printable ASCII as `\DDD`, so that every octet can be seen. */
export const escaped = (text: string): string =>
  // eslint-disable-next-line no-control-regex -- these are the characters to escape
  text.replace(/[\x00-\x1f\x7f-\xff\\]/g, (byte) => `\\${byte.charCodeAt(0).toString().padStart(3, '0')}`);
