import { setTimeout as delay } from 'node:timers/promises';

/** Milliseconds after which something that should come by itself counts as lost. */
export const patienceMs = 60_000;

/**
 * Gives what a probe gives, once that is truthy.
 *
 * @throws {Error} when it is not within `patienceMs`.
 */
export async function until<T>(what: string, probe: () => Promise<T>): Promise<NonNullable<T>> {
  for (const giveUpAt = performance.now() + patienceMs; ; await delay(30)) {
    const found = await probe();
    if (found) return found;
    if (performance.now() > giveUpAt) throw new Error(`Not within ${patienceMs} ms: ${what}`);
  }
}
