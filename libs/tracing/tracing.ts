import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { ofEachApp } from '@app/runtime';
import type { Origin, Span, SpanOptions, TraceIds, Tracer, TracingOptions } from './span';

/**
 * Milliseconds for which what an event or a task leads to belongs to the trace of that. Later work begins a trace of
 * its own with a link, since backends put traces together within minutes, and a task may be tried for days.
 */
const continuedMs = 600_000;

/** Milliseconds for which the end waits for the last export. */
const endWithinMs = 3_000;

const current = new AsyncLocalStorage<Span>();
/** What records the spans of an app; nothing where it is not traced. */
const recording = ofEachApp((): { tracer?: Tracer | undefined } => ({}));

/** Takes what is said of a span that is not recorded. */
const unrecorded: Pick<Span, 'set' | 'fail' | 'isSampled'> = {
  isSampled: false,
  set: () => undefined,
  fail: () => undefined,
};

/** What work may say of the span that it runs in. */
export type Recorded = typeof unrecorded;

/**
 * Loads OpenTelemetry and begins to record spans. Without this call nothing of it is loaded, and spans cost nothing.
 */
export async function startTracing(options: TracingOptions): Promise<void> {
  const { OpenTelemetry } = await import('./open-telemetry.js');
  recording().tracer = new OpenTelemetry(options);
}

/** Exports what has ended, for three seconds at most, and records nothing more. Never rejects. */
export async function endTracing(): Promise<void> {
  const ending = recording().tracer;
  recording().tracer = undefined;
  if (!ending) return;
  const over = new AbortController();
  const late = delay(endWithinMs, undefined, { signal: over.signal }).catch(() => undefined);
  await Promise.race([ending.end().catch(() => undefined), late]);
  over.abort();
}

/** Whether spans of this app are recorded. */
export const isTracing = (): boolean => recording().tracer !== undefined;

/**
 * Does work in a span below the running one. Where no trace runs, or one that is not recorded, it only does the work:
 * what neither a request, an event nor a task has caused is no trace.
 */
export function span<T>(name: string, options: SpanOptions, work: (span: Recorded) => Promise<T>): Promise<T> {
  const above = current.getStore();
  const { tracer } = recording();
  return tracer && above?.isSampled ? within(tracer.start(name, options, above), work) : work(unrecorded);
}

/** Does work in a span that begins a trace, or goes on with one that comes from another process. */
export function trace<T>(
  name: string,
  options: SpanOptions & Origin,
  work: (span: Recorded) => Promise<T>,
): Promise<T> {
  const { tracer } = recording();
  return tracer ? within(tracer.start(name, options, options), work) : work(unrecorded);
}

/**
 * Begins a span as `trace` does, for work that is no promise. The caller ends it.
 *
 * @returns undefined where nothing is traced.
 */
export const openTrace = (name: string, options: SpanOptions & Origin): Span | undefined =>
  recording().tracer?.start(name, options, options);

/** Does work as a part of a span, which stays open. */
export const runIn = <T>(opened: Span, work: () => T): T => current.run(opened, work);

/** Gives the running span as it is stored and sent with what it leads to; undefined where no trace runs. */
export function carried(): { readonly traceparent: string } | undefined {
  const running = current.getStore();
  return running && { traceparent: running.traceparent };
}

/** Gives the ids of the running trace for a line of the log, in an object of its own; no ids where none runs. */
export const traceIds = (): TraceIds => current.getStore()?.ids ?? {};

/**
 * Says how the trace of something recorded earlier goes on: in the same trace for ten minutes, in one of its own with a
 * link after that.
 *
 * @param at when it was recorded.
 */
export function originOf(traceparent: string | null | undefined, at: Date): Origin {
  if (!traceparent) return {};
  return Date.now() - at.getTime() < continuedMs ? { parent: traceparent } : { link: traceparent };
}

const within = <T>(opened: Span, work: (span: Recorded) => Promise<T>): Promise<T> =>
  current.run(opened, async () => {
    try {
      return await work(opened);
    } catch (error) {
      opened.fail(error);
      throw error;
    } finally {
      opened.end();
    }
  });
