import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { answerTo, apiClient, asFailure, failureOf, type Api, type ApiFailure, type Schemas } from '../shared/api';
import { announce } from '../shared/announce';
import { nextOwnCheck } from '../shared/time';

type Setup = Schemas['SetupSchema'];

/** Milliseconds between two reads of where the domain stands; most of them are answered by 304. */
const pollMs = 4_000;

export interface SetupState {
  /** Absent until the first answer. */
  readonly setup: Setup | undefined;
  readonly failure: ApiFailure | undefined;
  readonly isChecking: boolean;
  readonly check: () => Promise<void>;
  readonly reload: () => Promise<void>;
  readonly api: Api;
}

/**
 * Reads what a setup link shows, and keeps it up to date while the page is seen: it reads where the domain stands every
 * few seconds, and has the records looked up by itself, at growing intervals, until the domain is verified.
 *
 * @param checksAtOnce whether to look without regard to `retry_at`, as after a change by one click.
 */
export function useSetup(token: string, checksAtOnce: boolean): SetupState {
  const [api] = useState(() => apiClient({ authorization: `Bearer ${token}` }));
  const [setup, setSetup] = useState<Setup>();
  const [failure, setFailure] = useState<ApiFailure>();
  /** Why the last check has failed: reading where the domain stands says nothing about that. */
  const [unchecked, setUnchecked] = useState<ApiFailure>();
  const [isChecking, setChecking] = useState(false);
  const own = useRef({ times: 0, at: Date.now(), isBusy: false });
  const etag = useRef('');
  const last = useRef<Setup | undefined>(undefined);

  const show = useCallback((next: Setup): void => {
    const before = last.current;
    last.current = next;
    setSetup(next);
    setFailure(undefined);
    if (before && before.verification_status !== next.verification_status) {
      const verified = `${next.domain} is verified. Nothing is left to do.`;
      announce(next.verification_status === 'verified' ? verified : `${next.domain} is not verified any more.`);
    }
  }, []);

  /** Reads everything, the live plan as well. */
  const reload = useCallback(async (): Promise<void> => {
    try {
      const { data } = await answerTo(api.GET('/setup'));
      show(data);
    } catch (error) {
      setFailure(asFailure(error));
    }
  }, [api, show]);

  /** Reads where the domain stands; the plan is read again when that has changed. */
  const poll = useCallback(async (): Promise<void> => {
    try {
      const headers = etag.current === '' ? {} : { 'If-None-Match': etag.current };
      const { data, error, response } = await api.GET('/setup', {
        params: { query: { plan: 'false' }, header: headers },
      });
      if (response.status === 304) return setFailure(undefined);
      if (!data) return setFailure(failureOf(error, response));
      etag.current = response.headers.get('etag') ?? '';
      const before = last.current;
      if (before && standingOf(before) !== standingOf(data.data)) return await reload();
      if (before) show({ ...before, ...data.data, dns_host: before.dns_host, plan: before.plan });
    } catch (error) {
      setFailure(asFailure(error));
    }
  }, [api, reload, show]);

  const check = useCallback(async (): Promise<void> => {
    if (own.current.isBusy) return;
    own.current = { times: own.current.times + 1, at: Date.now(), isBusy: true };
    setChecking(true);
    setUnchecked(undefined);
    try {
      await answerTo(api.POST('/setup/verify'));
      await reload();
      const status = last.current?.verification_status;
      if (status !== undefined && status !== 'verified') announce('Checked. Something is left to do.');
    } catch (error) {
      setUnchecked(asFailure(error));
    }
    own.current = { ...own.current, at: Date.now(), isBusy: false };
    setChecking(false);
  }, [api, reload]);

  useEffect(() => {
    void reload().then(() => (checksAtOnce ? check() : undefined));
    let polled = Date.now();
    let isPolling = false;
    const timer = setInterval(() => {
      const current = last.current;
      if (document.visibilityState !== 'visible' || !current) return;
      const now = Date.now();
      const isDue = nextOwnCheck(own.current, current.retry_at) <= now;
      if (current.verification_status !== 'verified' && isDue) return void check();
      if (now - polled < pollMs || isPolling || own.current.isBusy) return;
      polled = now;
      // A service that is slow is not asked again before it has answered.
      isPolling = true;
      void poll().finally(() => (isPolling = false));
    }, 1_000);
    return () => clearInterval(timer);
  }, [check, checksAtOnce, poll, reload]);

  return { setup, failure: failure ?? unchecked, isChecking, check, reload, api };
}

/** What the plan depends on, as far as a look sees it. */
const standingOf = ({ verification_status, records }: Setup): string =>
  JSON.stringify([verification_status, records.map(({ status, last_seen }) => [status, last_seen])]);
