/** What JavaScript's `\s` is, of the characters that a character-string of the DNS can hold. */
export const whiteSpace = ' \t\n\v\f\r\xa0';

/**
 * A text without the characters of a set at its ends. Linear, for texts of 64 KiB that anybody may publish: a regular
 * expression that looks for a run at the end of a text begins again at each character of every run inside it.
 */
export function trimmed(text: string, set: string): string {
  let [from, to] = [0, text.length];
  while (from < to && set.includes(text[from]!)) from++;
  while (to > from && set.includes(text[to - 1]!)) to--;
  return text.slice(from, to);
}
