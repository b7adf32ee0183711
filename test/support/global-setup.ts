import { mkdtempSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../local/embedded-postgres';
import { SharedKafkaServer } from './shared-kafka-server';

declare global {
  var counterparts: { postgres: EmbeddedPostgres; kafka: SharedKafkaServer; directory: string } | undefined;
}

/**
 * Starts what the suites of a Jest run share: a PostgreSQL, in which each creates databases of its own
 * (`test-database.ts`), and what starts a Kafka for the first that asks (`kafka.ts`).
 */
export default async function globalSetup(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-test-'));
  chmodSync(directory, 0o755);
  const postgres = await startEmbeddedPostgres(join(directory, 'postgres'), {
    // Suites run side by side, and each process of theirs may have 16 connections to each database.
    max_connections: '500',
    // No machine loses its power in a test: what a killed server has written stays. Waiting for the disk takes long
    // where each test makes databases of its own.
    fsync: 'off',
    full_page_writes: 'off',
  });
  const kafka = await SharedKafkaServer.open();
  globalThis.counterparts = { postgres, kafka, directory };
  process.env.TEST_DATABASE_URL = await postgres.database('admin');
  process.env.TEST_KAFKA_URL = kafka.url;
}
