import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { destination } from 'pino';
import { visibleJson } from './visible';

/** Writes to standard output in the background, so that a slow reader of the logs does not block the event loop. */
const output = destination();

let isOpen = true;

/** Says whether lines still reach the log. */
export const isLogOpen = (): boolean => isOpen;

/** How pino begins a line of the level `fatal`, which says why the process ends. */
const fatalLine = '{"level":60,';
let isLastWritten = false;

/**
 * Writes lines with hidden characters as escapes: a line has texts from outside, and whoever reads it may do so in a
 * terminal, or split it where Unicode has line breaks. Drops what is logged after the end, such as the answer to a
 * request whose connection the stop has closed, and after the line that says why the process ends.
 */
export const logLines = {
  write: (line: string): unknown => {
    if (!isOpen || isLastWritten) return false;
    isLastWritten = line.startsWith(fatalLine);
    return output.write(visibleJson(line));
  },
};

/**
 * Ends the log. Resolves when every line has been written, or after 1 s, since a reader that has stopped must not keep
 * the process from ending. Nothing can be logged after it.
 */
export async function endLog(): Promise<void> {
  if (!isOpen) return;
  isOpen = false;
  const written = once(output, 'close');
  output.end();
  await Promise.race([written, delay(1_000)]).catch(() => undefined);
}
