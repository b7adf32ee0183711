import { AsyncLocalStorage } from 'node:async_hooks';

const scopes = new AsyncLocalStorage<AppScope>();

/** What belongs to one of several apps of a process: its metrics, its name in the log, its traces. */
export class AppScope {
  constructor(readonly app: string) {}

  /** Does work, and whatever that begins (timers, servers, connections), for this app. */
  run<T>(work: () => T): T {
    return scopes.run(this, work);
  }
}

/** What a process that runs one app alone does, or code outside of any app. */
const ofProcess = new AppScope('');

/** Gives the name of the app for which the calling code runs; undefined where the process runs one app alone. */
export const currentApp = (): string | undefined => scopes.getStore()?.app;

/**
 * Keeps a value of which each app of a process has its own, where a variable of the module would be shared by all.
 *
 * @param make gives the first value of an app, when that app first asks for it.
 * @returns what gives the value of the app for which the caller runs.
 */
export function ofEachApp<T>(make: () => T): () => T {
  const values = new WeakMap<AppScope, { readonly value: T }>();
  return () => {
    const scope = scopes.getStore() ?? ofProcess;
    const known = values.get(scope);
    if (known) return known.value;
    const value = make();
    values.set(scope, { value });
    return value;
  };
}
