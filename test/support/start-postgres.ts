import { mkdtempSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../local/embedded-postgres';

declare global {
  var postgres: { server: EmbeddedPostgres; directory: string } | undefined;
}

/** Starts one server for a Jest run. Every test file creates databases of its own in it (`test-database.ts`). */
export default async function startPostgres(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-test-'));
  chmodSync(directory, 0o755);
  // Suites run side by side, and each process of theirs may have 16 connections to each database.
  const server = await startEmbeddedPostgres(join(directory, 'postgres'), { max_connections: '500' });
  globalThis.postgres = { server, directory };
  process.env.TEST_DATABASE_URL = await server.database('admin');
}
