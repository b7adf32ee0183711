import type { IncomingMessage, RequestListener } from 'node:http';
import { flushCompileCache } from 'node:module';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import {
  AppScope,
  completeEnvironment,
  currentApp,
  endLog,
  isLogOpen,
  loadSettings,
  NotInOrder,
  SettingsInvalid,
  visible,
} from '@app/runtime';
import { endTracing } from '@app/tracing';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Logger as NestLogger, type DynamicModule } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Logger } from 'nestjs-pino';
import { HttpServers, type HttpServerOptions } from './http-server';
import { HttpTraces, type HttpTracesOptions } from './http-traces';
import { loggerOfProcess } from './logging.module';
import { requestId } from './request-id';
import { RequestLog } from './request-log';
import { traceProcess } from './tracing';

/** An app as its `main.ts` runs it, and as it runs beside others in one process. */
export interface App {
  readonly name: string;
  /**
   * Reads the settings.
   *
   * @throws {SettingsInvalid}
   */
  readonly describe: () => AppToRun;
}

/** An app whose modules are loaded when it starts. */
export interface AppToLoad {
  readonly name: string;
  readonly load: () => Promise<App>;
}

export interface AppToRun extends HttpServerOptions {
  readonly host: string;
  readonly port: number;
  readonly module: DynamicModule;
  /** Largest body of a request, in bytes. */
  readonly bodyLimit?: number;
  /** Configures the app after its creation, before the port opens. */
  readonly configure?: (app: NestFastifyApplication) => Promise<void> | void;
  /** How requests are traced; not at all when absent. `runApp` says it by the settings of traces. */
  readonly traces?: HttpTracesOptions | undefined;
  /** Whether the settings of traces are for this app; true when absent. */
  readonly isTraced?: boolean;
}

/** Creates the app as `main.ts` and the tests run it. The caller listens. */
export async function createApp({
  module,
  configure,
  bodyLimit = 65_536,
  traces,
  ...options
}: AppToRun): Promise<NestFastifyApplication> {
  const servers = new HttpServers(options);
  const traced = traces && new HttpTraces(traces);
  const adapter = new FastifyAdapter({
    serverFactory: (handler: RequestListener) => servers.create(traced ? traced.around(handler) : handler),
    // The servers answer these themselves.
    clientErrorHandler: () => undefined,
    frameworkErrors: (_error: unknown, request: FastifyRequest, reply: FastifyReply) =>
      servers.answer('path', request.raw, reply.raw),
    bodyLimit,
    // Parameters may be as long as the head of a request, so that the route can say what is wrong with a long one.
    routerOptions: { maxParamLength: 16_384 },
    genReqId: (request: IncomingMessage) => requestId(request),
  });
  adapter.getInstance().addHook('preClose', (done) => {
    // The server closes, which waits for its connections, after this hook.
    void servers.connections.close();
    done();
  });
  traced?.followIn(adapter.getInstance());
  const app = await NestFactory.create<NestFastifyApplication>(module, adapter, {
    // The process has a logger already where it runs several apps.
    bufferLogs: currentApp() === undefined,
    abortOnError: false,
  });
  app.useLogger(app.get(Logger));
  app.get(RequestLog, { strict: false }).followIn(adapter.getInstance());
  await configure?.(app);
  return app;
}

/** Milliseconds that a stop may take; a process supervisor sends SIGKILL after ten seconds. */
const stopWithinMs = 9_000;

/**
 * Runs a `main.ts`: settings, app, port. When the settings or the start fail, it writes one clear message and exits
 * with status 1. SIGINT and SIGTERM stop the app gracefully, through Nest's shutdown hooks. The last line of the log
 * says what ended the process.
 */
export const runApp = ({ name, describe }: App): Promise<void> =>
  orEnd(name, async () => {
    const description = describe();
    const app = await create(name, description);
    const logger = app.get(Logger);
    endOnFaults(name, logger);
    const opened = open(name, description, app);
    endOnSignals(name, logger, () => opened.then(() => closed(app)));
    await opened;
    // Node itself writes the cache only at an exit, and an app ends by a signal.
    flushCompileCache();
  });

/**
 * Runs several apps in this process, each with its own ports, health, metrics, traces and name in the log. What ends
 * one of them, or keeps it from starting, ends the process; otherwise it does as `runApp`.
 *
 * @param name that of the process, in its log.
 * @param groups the apps of a group start when those of the groups before are ready, and stop before these.
 */
export const runApps = (name: string, groups: readonly (readonly AppToLoad[])[]): Promise<void> =>
  new AppScope(name).run(() =>
    orEnd(name, async () => {
      const logger = loggerOfProcess(name, loadSettings(process.env, ['LOG_LEVEL']).LOG_LEVEL);
      NestLogger.overrideLogger(logger);
      const apps = new RunningApps(name);
      endOnFaults(name, logger);
      endOnSignals(name, logger, () => apps.stop());
      await apps.start(groups);
      flushCompileCache();
    }),
  );

interface RunningApp {
  readonly name: string;
  readonly opened: Promise<void>;
  readonly close: () => Promise<void>;
}

/** Starts the apps of a process group by group, and stops those that it has started. */
class RunningApps {
  private readonly groups: RunningApp[][] = [];
  private creating = Promise.resolve();
  private isStopping = false;

  constructor(private readonly process: string) {}

  /** Resolves when all apps are ready. After a stop it begins no other one. */
  async start(groups: readonly (readonly AppToLoad[])[]): Promise<void> {
    for (const group of groups) {
      const running: RunningApp[] = [];
      this.groups.push(running);
      for (const app of group) {
        if (this.isStopping) return;
        await (this.creating = this.create(app, running));
      }
      await Promise.all(running.map(({ opened }) => opened));
    }
  }

  private create({ name, load }: AppToLoad, running: RunningApp[]): Promise<void> {
    const scope = new AppScope(name);
    const begin = (work: () => Promise<void>) => scope.run(() => orEnd(`${this.process}: ${name}`, work));
    return begin(async () => {
      const description = (await load()).describe();
      const app = await create(name, description);
      // The next one is created meanwhile.
      const opened = begin(() => open(name, description, app));
      running.push({ name, opened, close: () => scope.run(() => closed(app)) });
    });
  }

  /**
   * Stops the groups in the reverse order. An app that cannot stop keeps no other one from doing so.
   *
   * @throws {Error} that says which could not stop, and why, when all others have.
   */
  async stop(): Promise<void> {
    this.isStopping = true;
    // One that is closed while it opens would say that it cannot start.
    await this.creating;
    const faults: string[] = [];
    const end = ({ name, opened, close }: RunningApp) =>
      opened.then(close).catch((error: unknown) => void faults.push(`${name}: ${textOf(error)}`));
    for (const group of this.groups.toReversed()) await Promise.all(group.map(end));
    if (faults.length > 0) throw new Error(faults.join('\n'));
  }
}

/** Does what a process starts with. When it fails, it writes one clear message and exits with status 1. */
async function orEnd(name: string, start: () => Promise<void>): Promise<void> {
  try {
    // The AWS SDK reads its variables from the environment, not from our settings.
    Object.assign(process.env, completeEnvironment(process.env));
    await start();
  } catch (error) {
    const isSaidByMessage = error instanceof SettingsInvalid || error instanceof NotInOrder;
    const message = isSaidByMessage ? error.message : textOf(error);
    process.stderr.write(`${name} cannot start.\n${shown(message)}\n`);
    process.exit(1);
  }
}

async function create(name: string, description: AppToRun): Promise<NestFastifyApplication> {
  const traces = description.isTraced === false ? undefined : await traceProcess(name);
  return createApp({ ...description, traces });
}

async function open(name: string, { port, host }: AppToRun, app: NestFastifyApplication): Promise<void> {
  await app.listen(port, host);
  app.get(Logger).log(`${name} listens on port ${port}`);
}

const closed = (app: NestFastifyApplication): Promise<void> => app.close().finally(endTracing);

const textOf = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

/** Gives a text of several lines, as a stack is, with hidden characters as escapes. */
const shown = (text: string): string => text.split('\n').map(visible).join('\n');

/** Writes the warnings of Node to the log. Node itself writes several lines for each, which are no JSON. */
function logWarnings(logger: Logger): void {
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) => logger.warn(`${name}: ${message}`));
}

/**
 * Ends the process on an uncaught fault. Each loop and timer handles its own faults, so one that arrives here is a
 * defect of the product.
 */
function endOnFaults(name: string, logger: Logger): void {
  logWarnings(logger);
  let isEnding = false;
  const end = (fault: string) => (error: unknown) => {
    // A second fault, while the log is written, is a consequence or a repetition of the first.
    if (isEnding) return;
    isEnding = true;
    void fail(logger, `${name} ends with status 1, by ${fault}`, error);
  };
  process.on('uncaughtException', end('an exception that nobody caught'));
  process.on('unhandledRejection', end('a rejection that nobody handled'));
}

async function fail(logger: Logger, how: string, error: unknown): Promise<never> {
  const said = `${how}: ${textOf(error)}`;
  if (isLogOpen()) logger.fatal(said);
  else process.stderr.write(`${shown(said)}\n`);
  await endLog();
  process.exit(1);
}

/** @param close ends all work in order. */
function endOnSignals(name: string, logger: Logger, close: () => Promise<void>): void {
  const signals = ['SIGINT', 'SIGTERM'] as const;
  let stopping = false;
  const stop = async (signal: NodeJS.Signals) => {
    // The launcher and a terminal may both send a signal.
    if (stopping) return;
    stopping = true;
    try {
      const isInOrder = await inTime(stopWithinMs, close());
      if (isInOrder) logger.log(`${name} has stopped after ${signal}`);
      else logger.warn(`${name} has stopped after ${signal}, with work that other processes will go on with`);
    } catch (error) {
      await fail(logger, `${name} ends with status 1, since it could not stop in order after ${signal}`, error);
    }
    await endLog();
    for (const each of signals) process.removeAllListeners(each);
    process.kill(process.pid, signal);
    // The first process of a container goes on after a signal that it sends itself.
    process.exit(128 + constants.signals[signal]);
  };
  for (const signal of signals) process.on(signal, () => void stop(signal));
}

/** Waits for the work at most for the given milliseconds, and says whether it was done by then. */
async function inTime(milliseconds: number, work: Promise<void>): Promise<boolean> {
  const over = new AbortController();
  const late = delay(milliseconds, false, { signal: over.signal }).catch(() => false);
  return Promise.race([work.then(() => true), late]).finally(() => over.abort());
}
