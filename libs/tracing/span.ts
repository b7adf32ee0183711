/** Says what a span is about: ids and numbers, never personal data, secrets or texts of others. */
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** The part that a span has in its trace (OpenTelemetry, `SpanKind`). */
export type SpanKind = 'internal' | 'server' | 'client' | 'producer' | 'consumer';

export interface SpanOptions {
  /** The kind; `internal` when absent. */
  readonly kind?: SpanKind;
  readonly attributes?: Attributes;
}

/** The span that a trace comes from, as W3C `traceparent`. What cannot be read as one is ignored. */
export interface Origin {
  /** The span that the trace goes on from; absent: a new trace begins. */
  readonly parent?: string | undefined;
  /** The span of another trace that has led to this one. */
  readonly link?: string | undefined;
  /** The `tracestate` that came with the parent. It stays in this process. */
  readonly state?: string | undefined;
}

/** A span that has begun, and ends by `end`. */
export interface Span {
  /** The span as W3C `traceparent`, for whatever it leads to. */
  readonly traceparent: string;
  /** Whether it is recorded and exported. One that is not only carries that decision on. */
  readonly isSampled: boolean;
  /** The ids of the trace and the span, as log lines have them. */
  readonly ids: TraceIds;
  rename(name: string): void;
  set(attributes: Attributes): void;
  /** Notes that the work has failed, by the name of the error alone: its message may quote an address. */
  fail(error: unknown): void;
  end(): void;
}

export interface TraceIds {
  readonly trace_id?: string;
  readonly span_id?: string;
}

/** Begins spans. */
export interface Tracer {
  /** @param from the span above it in this process, or where its trace comes from. */
  start(name: string, options: SpanOptions, from: Span | Origin): Span;
  /** Exports what has ended, and stops. */
  end(): Promise<void>;
}

/** How the spans of a process are sampled and exported. Other settings of the exporter are in its environment. */
export interface TracingOptions {
  /** The name of the service, unless the environment names one. */
  readonly service: string;
  /** One of the samplers of the OpenTelemetry specification, such as `parentbased_traceidratio`. */
  readonly sampler: string;
  /** The share of traces that a sampler by ratio takes, from 0 to 1. */
  readonly ratio: number;
  /** Milliseconds between two exports. */
  readonly exportEveryMs: number;
  /** Spans that wait for their export at most; further ones are dropped. */
  readonly mostWaiting: number;
  /** Gives the headers of an export, in the form of `OTEL_EXPORTER_OTLP_HEADERS`. */
  readonly headers?: (() => string | undefined) | undefined;
  /** Called when spans were not exported, with the reason. */
  readonly failed: (reason: string) => void;
}
