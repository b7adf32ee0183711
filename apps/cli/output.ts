import type { Command } from 'commander';

/**
 * Writes control characters, and those that are invisible or change the direction of text, as escapes: what customers
 * have written must not move the cursor of an operator's terminal, nor pass for another line.
 */
export const visible = (text: string): string =>
  text.replace(/[\p{C}\u2028\u2029]/gu, (mark) => `\\u{${mark.codePointAt(0)!.toString(16)}}`);

/** Prints one JSON document with `--json`, and the lines without. */
export function print(command: Command, document: unknown, lines: () => readonly string[]): void {
  const { json } = command.optsWithGlobals<{ json?: boolean }>();
  process.stdout.write(`${json ? JSON.stringify(document) : lines().join('\n').split('\n').map(visible).join('\n')}\n`);
}

export const examples = (...lines: string[]): string =>
  `\n${lines.length > 1 ? 'Examples' : 'Example'}:\n${lines.map((line) => `  $ ${line}`).join('\n')}`;

/** Formats a time for people, in UTC. */
export const minute = (time: Date): string => `${time.toISOString().slice(0, 16).replace('T', ' ')} UTC`;

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  return [head, ...rows].map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
}
