import { logLines } from '@app/runtime';
import { traceIds } from '@app/tracing';
import type { DynamicModule } from '@nestjs/common';
import { LoggerModule } from 'nestjs-pino';
import { runningRequest, timestamp } from './request-log';

/**
 * Logs one JSON object a line. Keys, cookies and the addresses in URLs never reach the logs. Requests are logged by
 * `RequestLog`.
 */
export function loggingModule(app: string, level: string): DynamicModule {
  return LoggerModule.forRoot({
    pinoHttp: {
      stream: logLines,
      level,
      base: { app },
      timestamp,
      mixin: () => ({ ...runningRequest(), ...traceIds() }),
      redact: { paths: ['*.authorization', '*.cookie', '*.password', '*.key', '*.token'], censor: '[hidden]' },
    },
    forRoutes: [],
  });
}
