import type { IncomingMessage } from 'node:http';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { DynamicModule } from '@nestjs/common';
import type { FastifyHttpOptions, RawServerDefault } from 'fastify';
import { Logger } from 'nestjs-pino';
import { requestId } from './logging.module';
import { completeEnvironment, SettingsInvalid } from './settings';

export interface AppToRun {
  readonly host: string;
  readonly port: number;
  readonly module: DynamicModule;
  /** Largest body that is read, in bytes. */
  readonly bodyLimit?: number;
  /** How requests are answered that Fastify refuses before any hook or route sees them. */
  readonly refusals?: Pick<FastifyHttpOptions<RawServerDefault>, 'frameworkErrors' | 'clientErrorHandler'>;
  /** After creation, before the port opens. */
  readonly configure?: (app: NestFastifyApplication) => Promise<void> | void;
}

/** Creates the app as `main.ts` and the tests run it; the caller listens. */
export async function createApp({
  module,
  configure,
  refusals,
  bodyLimit = 65_536,
}: AppToRun): Promise<NestFastifyApplication> {
  const adapter = new FastifyAdapter({
    ...refusals,
    bodyLimit,
    // As long as the head of a request may be: whoever gets a parameter says what is wrong with it.
    routerOptions: { maxParamLength: 16_384 },
    genReqId: (request: IncomingMessage) => requestId(request),
    // A client that keeps its connection must not keep the process.
    forceCloseConnections: 'idle',
  });
  const app = await NestFactory.create<NestFastifyApplication>(module, adapter, {
    bufferLogs: true,
    abortOnError: false,
  });
  app.useLogger(app.get(Logger));
  app.enableShutdownHooks();
  await configure?.(app);
  return app;
}

/**
 * The whole of a `main.ts`: settings, app, port; a fault of the settings or of the start is one clear message and a
 * status of 1. SIGINT and SIGTERM stop gracefully, through Nest's shutdown hooks.
 */
export async function runApp(name: string, describe: () => AppToRun): Promise<void> {
  // The AWS SDK reads its variables by itself, past our settings.
  Object.assign(process.env, completeEnvironment(process.env));
  try {
    const description = describe();
    const app = await createApp(description);
    await app.listen(description.port, description.host);
    app.get(Logger).log(`${name} listens on port ${description.port}`);
  } catch (error) {
    const message = error instanceof SettingsInvalid ? error.message : (error as Error).stack;
    process.stderr.write(`${name} cannot start.\n${message}\n`);
    process.exit(1);
  }
}
