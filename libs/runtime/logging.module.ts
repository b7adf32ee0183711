import { type DynamicModule } from '@nestjs/common';
import type { IncomingMessage } from 'node:http';
import { LoggerModule } from 'nestjs-pino';
import { newId } from './ids';

/** Joins what one request sets going; a caller's own id is kept when it has the form of one. */
const requestIdForm = /^[\w.:-]{8,128}$/;

/**
 * The id of a request: the caller's `X-Request-Id`, or a new `req_…`. It is in the answer, in every log line and in the
 * metadata of every event that the request leads to.
 */
export function requestId(request: IncomingMessage): string {
  const known = requestIds.get(request);
  if (known) return known;
  const given = request.headers['x-request-id'];
  const usable = typeof given === 'string' && requestIdForm.test(given) && withoutKeys(given) === given;
  const id = usable ? given : newId('req');
  requestIds.set(request, id);
  return id;
}

/** Fastify and the logger both ask, and must hear the same. */
const requestIds = new WeakMap<IncomingMessage, string>();

/** An API key belongs into no URL and no other header, but people put it there: what is logged or said of it has none. */
export const withoutKeys = (text: string): string => text.replace(/smx_[a-z]+_\w+/gi, 'smx_[hidden]');

/** Structured logs, one JSON object a line. Keys and cookies never reach them. */
export function loggingModule(app: string, level: string): DynamicModule {
  return LoggerModule.forRoot({
    pinoHttp: {
      level,
      base: { app },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      genReqId: requestId,
      quietReqLogger: true,
      customAttributeKeys: { reqId: 'request_id' },
      // As middleware, it sees in `url` what is left of the path.
      autoLogging: {
        ignore: (request: IncomingMessage & { originalUrl?: string }) =>
          /^\/(health|metrics)/.test(request.originalUrl ?? request.url ?? ''),
      },
      customLogLevel: (_request, response) => (response.statusCode >= 500 ? 'warn' : 'info'),
      // Of a 5xx the logger makes an error of its own, whose stack tells nothing; the filter has logged the true one.
      customErrorMessage: () => 'request completed',
      customErrorObject: (_request, _response, _error, line: object) => ({ ...line, err: undefined }),
      serializers: {
        req: (request: { method: string; url: string }) => ({
          method: request.method,
          url: withoutKeys(request.url),
        }),
        res: (response: { statusCode: number }) => ({ status: response.statusCode }),
      },
      redact: { paths: ['*.authorization', '*.cookie', '*.password', '*.key', '*.token'], censor: '[hidden]' },
    },
  });
}
