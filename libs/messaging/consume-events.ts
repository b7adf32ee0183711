import type { INestApplication } from '@nestjs/common';
import { Pool } from 'pg';
import { EventLog } from '@app/event-store';
import { HealthProbes } from '@app/runtime';
import { LogTransport } from './log-transport';

/**
 * Feeds the `@EventConsumer()` controllers of an app from the log, from its beginning on, as a consumer group of the
 * given name. Progress is liveness: a reader that is behind and does not move turns `/health/live` red.
 */
export async function consumeEvents(app: INestApplication, group: string): Promise<void> {
  const transport = new LogTransport({ pool: app.get(Pool), log: app.get(EventLog), group, startFrom: 'beginning' });
  app.connectMicroservice({ strategy: transport });
  // eslint-disable-next-line @typescript-eslint/require-await -- a probe is a promise; this one knows at once
  app.get(HealthProbes).add('live', 'events', async () => transport.assertProgress());
  await app.startAllMicroservices();
}
