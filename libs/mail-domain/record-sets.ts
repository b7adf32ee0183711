import { dnsRecords } from './records';
import type { Expected } from './verdicts';

/** All records of one name and type. */
export interface RecordSet {
  /** FQDN without the trailing dot. */
  readonly name: string;
  readonly type: 'MX' | 'TXT' | 'CNAME';
  /** As the API shows them: `10 mail.sendmux.ai`; the target of a CNAME; a TXT with a character a byte. */
  readonly values: readonly string[];
}

/** Seconds; what the guide advises while a domain is set up. */
export const setUpTtl = 300;

/** The records of a domain by name and type: what a zone has to hold. */
export function recordSets(domain: Expected): RecordSet[] {
  const { mx, spf, dmarc, dkim, verification } = dnsRecords(domain);
  return [
    { name: domain.name, type: 'MX', values: mx.map(({ priority, target }) => `${priority} ${target}`) },
    ...[spf, dmarc, verification].map(({ name, value }) => ({ name, type: 'TXT' as const, values: [value] })),
    ...dkim.map(({ name, value }) => ({ name, type: 'CNAME' as const, values: [value] })),
  ];
}

/** The octets that one character-string can hold (RFC 1035 section 3.3). */
const stringLimit = 255;

/** The character-strings of a TXT record. */
export const characterStrings = (value: string): string[] =>
  value === '' ? [''] : (value.match(new RegExp(`[^]{1,${stringLimit}}`, 'g')) ?? []);

/** A value in a master file (RFC 1035 section 5.1): names with their dot, strings quoted, other octets as `\DDD`. */
export function rdata(type: RecordSet['type'], value: string): string {
  if (type !== 'TXT') return value.endsWith('.') ? value : `${value}.`;
  return characterStrings(value)
    .map((text) => `"${escaped(text).replace(/"/g, '\\"')}"`)
    .join(' ');
}

/** Octets that are not printable ASCII, and the backslash, as `\DDD`: what cannot be seen is seen, and nothing is lost. */
export const escaped = (text: string): string =>
  // eslint-disable-next-line no-control-regex -- these are the characters to escape
  text.replace(/[\x00-\x1f\x7f-\xff\\]/g, (byte) => `\\${byte.charCodeAt(0).toString().padStart(3, '0')}`);
