import { visible, visibleJson } from '@app/runtime';
import type { Command } from 'commander';

/**
 * Prints one JSON document with `--json`, and the lines without. What customers have written must not move the cursor
 * of an operator's terminal, nor pass for another line.
 */
export function print(command: Command, document: unknown, lines: () => readonly string[]): void {
  const { json } = command.optsWithGlobals<{ json?: boolean }>();
  if (json) printJson(document);
  else printLines(lines());
}

/** Writes lines to standard output, each as one line whatever is in it. */
export function printLines(lines: readonly string[]): void {
  if (lines.length > 0) process.stdout.write(`${lines.map(visible).join('\n')}\n`);
}

/** Writes a JSON document to standard output, on one line unless it is indented by some spaces. */
export const printJson = (document: unknown, indent?: number): void =>
  void process.stdout.write(`${visibleJson(JSON.stringify(document, null, indent))}\n`);

/** Writes an explanation, or an error, to standard error, as one line whatever is in it. */
export const say = (line: string): void => void process.stderr.write(`${visible(line)}\n`);

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
