export type { Attributes, Origin, Span, SpanKind, SpanOptions, TracingOptions } from './span';
export { knownTraceparent } from './traceparent';
export {
  carried,
  endTracing,
  isTracing,
  openTrace,
  originOf,
  runIn,
  span,
  startTracing,
  trace,
  traceIds,
  type Recorded,
} from './tracing';
