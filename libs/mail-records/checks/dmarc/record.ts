import { trimmed } from '../../trimmed';

export const dmarcValue = 'v=DMARC1; p=quarantine';

export const policies = ['none', 'quarantine', 'reject'] as const;
export type Policy = (typeof policies)[number];

/** The policy that a tag asks for (RFC 7489 section 6.3); undefined where a receiver knows none of that name. */
export const policyIn = (value: string | undefined): Policy | undefined =>
  policies.find((policy) => policy === value?.toLowerCase());

/**
 * DMARC records by the grammar of RFC 7489 section 6.4, kept by RFC 9989: tags in any order after `v`, white space
 * around `=` and `;`, unknown tags ignored.
 */
export interface DmarcRecord {
  /** Tag names in lower case, values as written, in their order. */
  readonly tags: ReadonlyMap<string, string>;
  /** A name that stands there more than once, which makes the whole list invalid (RFC 6376 section 3.2). */
  readonly repeated?: string;
}

/** Whether a TXT RR is a DMARC record: `v=DMARC1`, in capitals, comes first, and ends there or at a semicolon. */
export const isDmarc = (text: string): boolean => /^[vV][ \t]*=[ \t]*DMARC1[ \t]*(;|$)/.test(text);

export function parseDmarc(text: string): DmarcRecord {
  const tags = new Map<string, string>();
  let repeated: string | undefined;
  for (const part of text.split(';')) {
    const match = /^[ \t]*([a-z][a-z0-9]*)[ \t]*=/i.exec(part);
    if (!match) continue;
    const name = match[1]!.toLowerCase();
    const value = trimmed(part.slice(match[0].length), ' \t');
    if (tags.has(name)) repeated ??= name;
    else tags.set(name, value);
  }
  return { tags, repeated };
}

/**
 * Gives the tag of a policy whose value no receiver knows. It makes the whole record one without a policy: RFC 7489
 * section 6.6.3 says so of `p` and `sp`, RFC 9989 of `np` as well.
 */
export const unknownPolicy = ({ tags }: DmarcRecord): 'p' | 'sp' | 'np' | undefined =>
  (['p', 'sp', 'np'] as const).find((name) => tags.has(name) && policyIn(tags.get(name)) === undefined);
