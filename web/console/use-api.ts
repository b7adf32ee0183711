import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { asFailure, type ApiFailure } from '../shared/api';
import { useSession } from './session';

/** Milliseconds after the last touch of the page from which on it reads nothing by itself, so that its session ends. */
const idleMs = 10 * 60_000;
let touched = Date.now();
for (const event of ['pointerdown', 'keydown', 'focus']) addEventListener(event, () => (touched = Date.now()));
const isInUse = (): boolean => document.visibilityState === 'visible' && Date.now() - touched < idleMs;

export interface Loaded<T> {
  /** What was read last; absent until the first answer. */
  readonly value: T | undefined;
  readonly failure: ApiFailure | undefined;
  readonly reload: () => Promise<void>;
}

/**
 * Reads something of the API, and again when what it depends on changes.
 *
 * @param everyMs after how many milliseconds it is read again while the page is in use, until it is gone; never where
 *   absent.
 */
export function useLoaded<T>(load: () => Promise<T>, on: readonly unknown[], everyMs?: number): Loaded<T> {
  const { refused } = useSession();
  const [value, setValue] = useState<T>();
  const [failure, setFailure] = useState<ApiFailure>();
  const turn = useRef(0);
  const answered = useRef(0);
  const isGone = useRef(false);
  const reload = useCallback(async () => {
    // Of two answers that cross, the one that was asked for later counts.
    const mine = ++turn.current;
    try {
      const next = await load();
      if (mine !== turn.current) return;
      isGone.current = false;
      setValue((last) => (JSON.stringify(last) === JSON.stringify(next) ? last : next));
      setFailure(undefined);
    } catch (error) {
      if (mine !== turn.current) return;
      isGone.current = asFailure(error).status === 404;
      setFailure(asFailure(error));
      refused(asFailure(error));
    } finally {
      answered.current = Math.max(answered.current, mine);
    }
  }, on);
  useEffect(() => {
    setValue(undefined);
    void reload();
    if (everyMs === undefined) return;
    const timer = setInterval(() => {
      // A service that is slow is not asked again before it has answered.
      if (isInUse() && !isGone.current && answered.current === turn.current) void reload();
    }, everyMs);
    return () => clearInterval(timer);
  }, [reload]);
  return { value, failure, reload };
}

export interface Action {
  readonly isBusy: boolean;
  readonly failure: ApiFailure | undefined;
  /** Does something unless something is being done; gives whether it succeeded. */
  readonly run: (act: () => Promise<unknown>) => Promise<boolean>;
}

/** Does what a button or a form asks for, one thing at a time, and keeps why it failed. */
export function useAction(): Action {
  const { refused } = useSession();
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<ApiFailure>();
  const busy = useRef(false);
  const run = useCallback(
    async (act: () => Promise<unknown>) => {
      if (busy.current) return false;
      busy.current = true;
      setBusy(true);
      setFailure(undefined);
      try {
        await act();
        return true;
      } catch (error) {
        setFailure(asFailure(error));
        refused(asFailure(error));
        return false;
      } finally {
        busy.current = false;
        setBusy(false);
      }
    },
    [refused],
  );
  return { isBusy, failure, run };
}

export interface Pages<T> {
  /** Absent until the first page. */
  readonly items: readonly T[] | undefined;
  readonly hasMore: boolean;
  readonly failure: ApiFailure | undefined;
  readonly more: () => Promise<unknown>;
  readonly reload: () => Promise<void>;
}

interface Page<T> {
  readonly data: T[];
  readonly pagination: { readonly has_more: boolean; readonly next_cursor?: string };
}

/** Reads a list page by page. */
export function usePages<T>(load: (cursor?: string) => Promise<Page<T>>, on: readonly unknown[]): Pages<T> {
  const first = useLoaded(() => load(), on);
  const next = useAction();
  const [further, setFurther] = useState<readonly Page<T>[]>([]);
  useEffect(() => setFurther([]), [first.value]);
  const last = further.at(-1) ?? first.value;
  const cursor = last?.pagination.next_cursor;
  return {
    items: first.value && [first.value, ...further].flatMap(({ data }) => data),
    hasMore: last?.pagination.has_more ?? false,
    failure: next.failure ?? first.failure,
    more: () => next.run(async () => setFurther([...further, await load(cursor)])),
    reload: first.reload,
  };
}
