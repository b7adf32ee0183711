import { currentApp, logLines } from '@app/runtime';
import { traceIds } from '@app/tracing';
import type { DynamicModule } from '@nestjs/common';
import { Logger, LoggerModule, PinoLogger, type Params } from 'nestjs-pino';
import { runningRequest, timestamp } from './request-log';

/**
 * Logs one JSON object a line. Keys, cookies and the addresses in URLs never reach the logs. Requests are logged by
 * `RequestLog`.
 */
export const loggingModule = (app: string, level: string): DynamicModule => LoggerModule.forRoot(loggingOf(app, level));

/** Makes the logger of a process of several apps, for what it logs itself. Lines name the app that they are of. */
export function loggerOfProcess(name: string, level: string): Logger {
  const logging = loggingOf(name, level);
  return new Logger(new PinoLogger(logging), logging);
}

/** Says which app a line is of: all apps of a process share what logs outside of requests. */
const whose = (app: string) =>
  currentApp() === undefined
    ? { base: { app }, mixin: () => ({ ...runningRequest(), ...traceIds() }) }
    : { base: null, mixin: () => ({ app: currentApp(), ...runningRequest(), ...traceIds() }) };

const loggingOf = (app: string, level: string): Params => ({
  pinoHttp: {
    stream: logLines,
    level,
    ...whose(app),
    timestamp,
    redact: { paths: ['*.authorization', '*.cookie', '*.password', '*.key', '*.token'], censor: '[hidden]' },
  },
  forRoutes: [],
});
