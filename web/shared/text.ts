/** A part of a text as it is shown: characters, or the name of one that would be invisible or change the direction. */
export type Part = { readonly text: string } | { readonly hidden: string };

/**
 * Characters that a reader cannot see, or that reorder others: controls, formats such as the bidirectional overrides,
 * line and paragraph separators, halves of surrogate pairs, and those without an agreed shape.
 */
const hidden = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/u;

/** Splits a text into what is shown as it stands and what is shown by its code point, such as `U+202E`. */
export function partsOf(text: string): Part[] {
  const parts: Part[] = [];
  let plain = '';
  for (const character of text) {
    if (!hidden.test(character)) {
      plain += character;
      continue;
    }
    if (plain) parts.push({ text: plain });
    plain = '';
    parts.push({ hidden: `U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}` });
  }
  if (plain) parts.push({ text: plain });
  return parts;
}

/** Gives the first UTF-16 code units of a text, `limit` at most, without half of a surrogate pair at the end. */
export function cut(text: string, limit: number): string {
  if (text.length <= limit) return text;
  const last = text.charCodeAt(limit - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? limit - 1 : limit);
}

const numbers = new Intl.NumberFormat('en-AU');

/** Writes a number with its noun, such as `1 mailbox` and `1,200 mailboxes`. */
export const count = (number: number, one: string, many = `${one}s`): string =>
  `${numbers.format(number)} ${number === 1 ? one : many}`;
