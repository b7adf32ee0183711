import { inspect } from 'node:util';

/** Gives the stack of an error, or whatever else was thrown, as text that PostgreSQL can store. */
export function describeError(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : inspect(error);
  return text.replaceAll('\0', '');
}
