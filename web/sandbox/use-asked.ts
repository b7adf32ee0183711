import { useCallback, useEffect, useState } from 'preact/hooks';
import { ask } from './api';

export interface Asked<T> {
  /** Absent until the first answer. */
  readonly answer: T | undefined;
  readonly fault: string | undefined;
  readonly reload: () => Promise<void>;
}

/** Milliseconds between two reads of what others may change meanwhile. */
const everyMs = 2_000;

/** Reads something of the sandbox, and again while the page is seen. */
export function useAsked<T>(path: string): Asked<T> {
  const [answer, setAnswer] = useState<T>();
  const [fault, setFault] = useState<string>();
  const reload = useCallback(async () => {
    try {
      const next = await ask<T>('GET', path);
      // The same answer must not lay the page out anew under the reader's hands.
      setAnswer((last) => (JSON.stringify(last) === JSON.stringify(next) ? last : next));
      setFault(undefined);
    } catch (error) {
      setFault((error as Error).message);
    }
  }, [path]);
  useEffect(() => {
    void reload();
    const timer = setInterval(() => {
      if (document.visibilityState === 'visible') void reload();
    }, everyMs);
    return () => clearInterval(timer);
  }, [reload]);
  return { answer, fault, reload };
}
