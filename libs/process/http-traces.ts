import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { openTrace, runIn, type Span } from '@app/tracing';
import type { FastifyInstance } from 'fastify';
import { requestId } from './request-id';

export interface HttpTracesOptions {
  /** Whether a request goes on with the trace that its `traceparent` names; else each begins one. */
  readonly continuesOthers: boolean;
}

/** Requests of operators, which are no work of the product. */
const quiet = /^\/(health|metrics)/;

/**
 * Traces requests: each is a span that everything else of the request is below. It has the route and never the path,
 * whose parts may be addresses or keys; what cannot be read as a `traceparent` is ignored.
 */
export class HttpTraces {
  private readonly spans = new WeakMap<IncomingMessage, Span>();

  constructor(private readonly options: HttpTracesOptions) {}

  /** Gives a handler of requests that has each handled within its span, which ends with the answer. */
  around(handler: RequestListener): RequestListener {
    return (request, response) => {
      const opened = quiet.test(request.url ?? '') ? undefined : this.open(request);
      if (!opened) return handler(request, response);
      this.spans.set(request, opened);
      // Most traces are not recorded as a rule, and nothing need be known of their requests.
      if (opened.isSampled) describe(opened, request, response);
      runIn(opened, () => handler(request, response));
    };
  }

  /** Names spans after their routes. */
  followIn(fastify: FastifyInstance): void {
    fastify.addHook('onRequest', ({ raw, routeOptions: { url } }, _, done) => {
      const opened = this.spans.get(raw);
      if (opened?.isSampled && url) {
        opened.rename(`${raw.method} ${url}`);
        opened.set({ 'http.route': url });
      }
      done();
    });
  }

  private open(request: IncomingMessage): Span | undefined {
    const { traceparent, tracestate } = this.options.continuesOthers ? request.headers : {};
    return openTrace(request.method ?? 'HTTP', {
      kind: 'server',
      parent: textOf(traceparent),
      state: textOf(tracestate),
    });
  }
}

function describe(span: Span, request: IncomingMessage, response: ServerResponse): void {
  span.set({
    'http.request.method': request.method,
    'network.protocol.version': request.httpVersion,
    'sendmux.request_id': requestId(request),
  });
  response.once('close', () => {
    const { statusCode, headersSent } = response;
    if (!headersSent) span.fail('unanswered');
    else {
      span.set({ 'http.response.status_code': statusCode });
      if (statusCode >= 500) span.fail(String(statusCode));
    }
    span.end();
  });
}

const textOf = (header: string | string[] | undefined): string | undefined =>
  typeof header === 'string' ? header : undefined;
