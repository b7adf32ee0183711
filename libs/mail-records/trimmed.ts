/** The characters of JavaScript's `\s` that a character-string of the DNS can hold. */
export const whiteSpace = ' \t\n\v\f\r\xa0';

/**
 * Removes the characters of a set from both ends of a text. It takes linear time, because anybody may publish texts of
 * 64 KiB: a regular expression for a run at the end starts again at each character of every run inside the text.
 */
export function trimmed(text: string, set: string): string {
  let [from, to] = [0, text.length];
  while (from < to && set.includes(text[from]!)) from++;
  while (to > from && set.includes(text[to - 1]!)) to--;
  return text.slice(from, to);
}
