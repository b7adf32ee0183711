/**
 * Is preloaded into the apps of a soak (`node --expose-gc --require`). It answers its parent with what the process
 * holds after a full collection, and makes what the product does hourly happen each minute: two hours have two hours.
 */

/** What a process holds, as it answers. */
export interface Held {
  /** Octets of objects on the heap, and of what they hold beside it. */
  readonly heap: number;
  /** What the event loop waits for, by its kind. */
  readonly resources: Readonly<Record<string, number>>;
}

const hourMs = 3_600_000;
const minuteMs = 60_000;

for (const name of ['setTimeout', 'setInterval'] as const) {
  const original = globalThis[name] as (...args: unknown[]) => unknown;
  // The promises of `node:timers/promises`, and what libraries have of timers by a property, stay as they are.
  globalThis[name] = Object.assign(
    (callback: unknown, ms: unknown, ...rest: unknown[]) => original(callback, ms === hourMs ? minuteMs : ms, ...rest),
    original,
  ) as never;
}

process.on('message', (message) => {
  if (message !== 'what do you hold?') return;
  // The last resort of V8: what a usual collection leaves, such as code that is compiled again when it is needed, has
  // nothing to do with what the process holds.
  (globalThis as { gc?: (options: object) => void }).gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  const { heapUsed, external } = process.memoryUsage();
  const resources: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1;
  process.send?.({ heap: heapUsed + external, resources } satisfies Held);
});
// As in `leave-with-parent`: the channel alone must not keep the app running.
process.channel?.unref();
