import { inspect } from 'node:util';
import {
  createTraceState,
  diag,
  DiagLogLevel,
  ROOT_CONTEXT,
  SpanKind as Kind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Context,
  type Span as OpenTelemetrySpan,
  type SpanContext,
  type Tracer as OpenTelemetryTracer,
} from '@opentelemetry/api';
import { parseKeyPairsIntoRecord, parseTraceParent, setGlobalErrorHandler } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
} from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  RandomIdGenerator,
  SamplingDecision,
  TraceIdRatioBasedSampler,
  TracerProvider,
  type IdGenerator,
  type Sampler,
} from '@opentelemetry/sdk-trace';
import type { Attributes, Origin, Span, SpanOptions, TraceIds, Tracer, TracingOptions } from './span';

/** The longest `traceparent` that is read; longer ones can only be of versions that are not known yet. */
const longestParent = 200;
/** The longest text that a span says, in characters. */
const longestText = 500;

const kinds = {
  internal: Kind.INTERNAL,
  server: Kind.SERVER,
  client: Kind.CLIENT,
  producer: Kind.PRODUCER,
  consumer: Kind.CONSUMER,
};

/**
 * Records spans by the SDK of OpenTelemetry, and exports them by OTLP over HTTP in the background. This file alone
 * imports the packages of OpenTelemetry. Nothing is registered for the whole process, so that no library records spans
 * of its own.
 */
export class OpenTelemetry implements Tracer {
  private readonly provider: TracerProvider;
  private readonly tracer: OpenTelemetryTracer;
  private readonly sampler: Sampler;
  private readonly ids = new DecidedIds();

  constructor({ service, sampler, ratio, exportEveryMs, mostWaiting, headers, failed }: TracingOptions) {
    const told = (...said: unknown[]) => failed(said.map(reasonOf).join(' '));
    const quiet = () => undefined;
    diag.setLogger(
      { error: told, warn: told, info: quiet, debug: quiet, verbose: quiet },
      { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
    );
    setGlobalErrorHandler(told);
    this.sampler = samplerOf(sampler, ratio);
    this.provider = new TracerProvider({
      sampler: this.sampler,
      idGenerator: this.ids,
      spanLimits: { attributeValueLengthLimit: longestText },
      // The environment comes last, so that it has its way.
      resource: defaultResource()
        .merge(resourceFromAttributes({ 'service.name': service }))
        .merge(detectResources({ detectors: [serviceInstanceIdDetector, envDetector] })),
      spanProcessors: [
        new BatchSpanProcessor({
          exporter: new OTLPTraceExporter({
            // The exporter asks before each request. Headers for traces alone come before those for all signals.
            headers: () =>
              Promise.resolve({
                ...parseKeyPairsIntoRecord(headers?.()),
                ...parseKeyPairsIntoRecord(process.env.OTEL_EXPORTER_OTLP_TRACES_HEADERS),
              }),
          }),
          scheduledDelayMillis: exportEveryMs,
          maxQueueSize: mostWaiting,
        }),
      ],
    });
    this.tracer = this.provider.getTracer('sendmux-domains');
  }

  start(name: string, { kind = 'internal', attributes = {} }: SpanOptions, from: Span | Origin): Span {
    if (from instanceof Recording)
      return new Recording(this.tracer.startSpan(name, { kind: kinds[kind], attributes }, below(from.recorded)));
    const { parent, link, state } = from as Origin;
    const remote = contextOf(parent, state);
    const context = remote ? trace.setSpanContext(ROOT_CONTEXT, remote) : ROOT_CONTEXT;
    const traceId = remote?.traceId ?? this.ids.generateTraceId();
    // Decided here, since most traces are not recorded as a rule: the SDK would make the same of them as of others.
    const { decision } = this.sampler.shouldSample(context, traceId, name, kinds[kind], {}, []);
    if (decision === SamplingDecision.NOT_RECORD) return new Unrecorded(traceId, this.ids.generateSpanId());
    if (!remote) this.ids.decided = traceId;
    const linked = contextOf(link);
    const options = { kind: kinds[kind], attributes, ...(linked && { links: [{ context: linked }] }) };
    return new Recording(this.tracer.startSpan(name, options, context));
  }

  async end(): Promise<void> {
    await this.provider.shutdown();
  }
}

/** Gives the context of what is below a span, without the `tracestate` that a client may have sent. */
function below(span: OpenTelemetrySpan): Context {
  const { traceId, spanId, traceFlags } = span.spanContext();
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags });
}

/** Reads a `traceparent`; undefined where it is none. */
function contextOf(parent: string | undefined, state?: string): SpanContext | undefined {
  if (!parent || parent.length > longestParent) return undefined;
  const read = parseTraceParent(parent);
  if (!read) return undefined;
  return { ...read, isRemote: true, ...(state && { traceState: createTraceState(state) }) };
}

/** Gives spans random ids, and the next trace the id by which it was decided to record it. */
class DecidedIds implements IdGenerator {
  private readonly random = new RandomIdGenerator();
  decided: string | undefined;

  generateTraceId(): string {
    const id = this.decided ?? this.random.generateTraceId();
    this.decided = undefined;
    return id;
  }

  generateSpanId(): string {
    return this.random.generateSpanId();
  }
}

/** A span that is not recorded, and carries that decision on with its ids. */
class Unrecorded implements Span {
  readonly isSampled = false;

  constructor(
    private readonly traceId: string,
    private readonly spanId: string,
  ) {}

  get traceparent(): string {
    return `00-${this.traceId}-${this.spanId}-00`;
  }

  get ids(): TraceIds {
    return { trace_id: this.traceId, span_id: this.spanId };
  }

  rename(): void {}

  set(): void {}

  fail(): void {}

  end(): void {}
}

class Recording implements Span {
  private context: SpanContext;

  constructor(readonly recorded: OpenTelemetrySpan) {
    this.context = recorded.spanContext();
  }

  get traceparent(): string {
    const { traceId, spanId } = this.context;
    return `00-${traceId}-${spanId}-${this.isSampled ? '01' : '00'}`;
  }

  get isSampled(): boolean {
    return (this.context.traceFlags & TraceFlags.SAMPLED) !== 0;
  }

  get ids(): TraceIds {
    return { trace_id: this.context.traceId, span_id: this.context.spanId };
  }

  rename(name: string): void {
    this.recorded.updateName(name);
  }

  set(attributes: Attributes): void {
    for (const [name, value] of Object.entries(attributes))
      if (value !== undefined) this.recorded.setAttribute(name, value);
  }

  fail(error: unknown): void {
    this.recorded.setAttribute('error.type', nameOf(error));
    this.recorded.setStatus({ code: SpanStatusCode.ERROR });
  }

  end(): void {
    this.recorded.end();
  }
}

/**
 * Gives the class of an error, with its code where it has one. A text is a kind that the caller has chosen. Clients
 * make names and codes of what their counterparts answer, so what is no word is left out.
 */
function nameOf(error: unknown): string {
  if (typeof error === 'string') return error;
  if (!(error instanceof Error)) return 'unknown';
  const { name, code } = error as NodeJS.ErrnoException;
  return [isWord(name) ? name : 'Error', ...(isWord(code) ? [code] : [])].join(' ');
}

const isWord = (text: unknown): text is string => typeof text === 'string' && /^\w{1,60}$/.test(text);

function reasonOf(said: unknown): string {
  if (said instanceof Error) return said.message;
  return typeof said === 'string' ? said : inspect(said);
}

/** Makes a sampler of the specification of OpenTelemetry (`OTEL_TRACES_SAMPLER`). */
function samplerOf(name: string, ratio: number): Sampler {
  const root = name.endsWith('ratio')
    ? new TraceIdRatioBasedSampler(ratio)
    : name.endsWith('_off')
      ? new AlwaysOffSampler()
      : new AlwaysOnSampler();
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root;
}
