import type { IncomingMessage } from 'node:http';
import { logLines } from '@app/runtime';
import { traceIds } from '@app/tracing';
import type { DynamicModule } from '@nestjs/common';
import { LoggerModule } from 'nestjs-pino';
import { requestId, withoutAddresses, withoutKeys } from './request-id';

/** Logs one JSON object a line. Keys, cookies and the addresses in URLs never reach the logs. */
export function loggingModule(app: string, level: string): DynamicModule {
  return LoggerModule.forRoot({
    pinoHttp: {
      stream: logLines,
      level,
      base: { app },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      mixin: traceIds,
      genReqId: requestId,
      quietReqLogger: true,
      customAttributeKeys: { reqId: 'request_id' },
      // As Express-style middleware the logger would see only a part of the path in `url`.
      autoLogging: {
        ignore: (request: IncomingMessage & { originalUrl?: string }) =>
          /^\/(health|metrics)/.test(request.originalUrl ?? request.url ?? ''),
      },
      customLogLevel: (_request, response) => (response.statusCode >= 500 ? 'warn' : 'info'),
      // For a 5xx the logger makes an error of its own, whose stack is of no use; the exception filter has logged the
      // real one.
      customErrorMessage: () => 'request completed',
      customErrorObject: (_request, _response, _error, line: object) => ({ ...line, err: undefined }),
      serializers: {
        req: (request: { method: string; url: string }) => ({
          method: request.method,
          url: withoutAddresses(withoutKeys(request.url)),
        }),
        res: (response: { statusCode: number }) => ({ status: response.statusCode }),
      },
      redact: { paths: ['*.authorization', '*.cookie', '*.password', '*.key', '*.token'], censor: '[hidden]' },
    },
  });
}
