import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { logLines } from '@app/runtime';
import { traceIds } from '@app/tracing';
import type { FastifyInstance } from 'fastify';
import { pino, type Logger } from 'pino';
import { requestId, withoutAddresses, withoutKeys } from './request-id';

/** Requests of operators, which come every few seconds. */
const quiet = /^\/(health|metrics)/;

/** The id of the request that work is done for. */
const running = new AsyncLocalStorage<string>();

/** Gives the id of the running request for a line of the log, in an object of its own; nothing where none runs. */
export function runningRequest(): { readonly request_id?: string } {
  const id = running.getStore();
  return id === undefined ? {} : { request_id: id };
}

/** Writes the time of a line. */
export const timestamp = (): string => `,"time":"${new Date().toISOString()}"`;

/**
 * Logs one line for each request, when its answer has ended or its client has gone. The logger of everything else makes
 * a logger for each request, and hides what its fields may have; these lines have fields of which each is known.
 */
export class RequestLog {
  private readonly logger: Logger;

  constructor(app: string, level: string) {
    this.logger = pino({ level, base: { app }, timestamp }, logLines);
  }

  /** Logs the requests of a server, and has whatever is logged meanwhile name their ids. */
  followIn(fastify: FastifyInstance): void {
    // Requests are logged as information, and those that have failed as warnings.
    const isHeard = this.logger.isLevelEnabled('warn');
    fastify.addHook('onRequest', ({ raw }, reply, done) => {
      if (isHeard && !quiet.test(raw.url ?? '')) this.await(raw, reply.raw);
      running.run(requestId(raw), done);
    });
  }

  private await(request: IncomingMessage, response: ServerResponse): void {
    const begun = Date.now();
    // Handlers may change the URL, and an answer may end in another context.
    const { url = '' } = request;
    const trace = traceIds();
    response.once('close', () => {
      const { statusCode, headersSent, writableFinished } = response;
      const level = statusCode >= 500 ? 'warn' : 'info';
      if (!this.logger.isLevelEnabled(level)) return;
      this.logger[level](
        {
          request_id: requestId(request),
          ...trace,
          req: { method: request.method, url: withoutAddresses(withoutKeys(url)) },
          res: { status: headersSent ? statusCode : null },
          responseTime: Date.now() - begun,
        },
        writableFinished ? 'request completed' : 'request aborted',
      );
    });
  }
}
