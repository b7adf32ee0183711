/**
 * Characters that a reader does not see, or that act on what shows them: controls (C1 ones too, which terminals take
 * for escape sequences), formats such as the bidirectional overrides, halves of surrogate pairs, characters without an
 * agreed shape, and the separators of lines and paragraphs, at which some readers of text begin another line.
 */
const hidden = /[\p{C}\p{Zl}\p{Zp}]/gu;

/**
 * Gives a text from outside on one line on which everything can be seen: hidden characters are written as escapes, such
 * as `\u{202e}`.
 */
export const visible = (text: string): string =>
  text.replace(hidden, (mark) => `\\u{${mark.codePointAt(0)!.toString(16)}}`);

/** The same but for the line breaks that JSON has between its values; in its strings they are escapes already. */
const hiddenInJson = /(?!\n)[\p{C}\p{Zl}\p{Zp}]/gu;
const mayBeHidden = /[^\n\x20-\x7e]/;

/**
 * Writes hidden characters of a JSON text as escapes, which read as the same value (RFC 8259 section 7). A text of
 * printable ASCII, as most are, is looked through once.
 */
export const visibleJson = (json: string): string =>
  mayBeHidden.test(json) ? json.replace(hiddenInJson, spelt) : json;

const spelt = (mark: string): string =>
  Array.from({ length: mark.length }, (_, i) => `\\u${mark.charCodeAt(i).toString(16).padStart(4, '0')}`).join('');
