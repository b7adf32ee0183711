import type { INestApplication } from '@nestjs/common';
import { Pool } from 'pg';
import { EventLog } from '@app/event-store';
import { HealthProbes, type Settings } from '@app/runtime';
import { KafkaClient } from './kafka-client';
import { kafkaSettings } from './kafka-settings';
import { KafkaTransport } from './kafka-transport';
import { LogTransport } from './log-transport';

/**
 * Delivers events to the `@EventConsumer()` controllers of an app as a consumer group of the given name, from the first
 * event on: from the log in PostgreSQL, or from Kafka where the settings name brokers. A consumer that is behind and
 * makes no progress turns `/health/live` red.
 *
 * @param schemaVersions the newest version of each event that the app understands.
 * @param lingerMs milliseconds from hearing of an event to reading it, where events are read from the log and nobody
 * waits for what the app makes of them.
 */
export async function consumeEvents(
  app: INestApplication,
  group: string,
  schemaVersions: Readonly<Record<string, number>>,
  settings: Settings,
  { lingerMs }: { readonly lingerMs?: number } = {},
): Promise<void> {
  const pool = app.get(Pool);
  const probes = app.get(HealthProbes);
  const kafka = kafkaSettings(settings);
  let transport: KafkaTransport | LogTransport;
  if (kafka) {
    const client = new KafkaClient(kafka, `sendmux-${group}`);
    const onKafka = (transport = new KafkaTransport({
      pool,
      client,
      group,
      schemaVersions,
      topic: settings.KAFKA_TOPIC,
      groupId: settings.KAFKA_GROUP_PREFIX + group,
    }));
    // eslint-disable-next-line @typescript-eslint/require-await -- a probe is a promise; this one knows at once
    probes.add('ready', 'kafka', async () => onKafka.assertJoined());
  } else {
    const log = app.get(EventLog);
    transport = new LogTransport({ pool, log, group, schemaVersions, startFrom: 'beginning', lingerMs });
  }
  app.connectMicroservice({ strategy: transport });
  // eslint-disable-next-line @typescript-eslint/require-await -- as above
  probes.add('live', 'events', async () => transport.assertProgress());
  await app.startAllMicroservices();
}
