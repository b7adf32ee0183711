/**
 * DMARC records by the grammar of RFC 7489 section 6.4, kept by RFC 9989: tags in any order after `v`, white space around `=`
 * and `;`, unknown tags ignored.
 */
export interface DmarcRecord {
  /** Tag names in lower case, values as written, in their order; the first of two with the same name counts. */
  readonly tags: ReadonlyMap<string, string>;
}

/** Whether a TXT RR is a DMARC record: `v=DMARC1` comes first, and ends there or at a semicolon. */
export const isDmarc = (text: string): boolean => /^v[ \t]*=[ \t]*DMARC1[ \t]*(;|$)/i.test(text);

/** One that would be, had it a semicolon after the version. */
export const lacksSemicolon = (text: string): boolean => /^v[ \t]*=[ \t]*DMARC1[ \t]+[a-z]+[ \t]*=/i.test(text);

export function parseDmarc(text: string): DmarcRecord {
  const tags = new Map<string, string>();
  for (const part of text.split(';')) {
    const match = /^[ \t]*([a-z][a-z0-9]*)[ \t]*=[ \t]*(.*?)[ \t]*$/i.exec(part);
    if (!match) continue;
    const [, name, value] = match as unknown as [string, string, string];
    if (!tags.has(name.toLowerCase())) tags.set(name.toLowerCase(), value);
  }
  return { tags };
}
