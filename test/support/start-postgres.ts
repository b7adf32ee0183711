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
  const server = await startEmbeddedPostgres(join(directory, 'postgres'));
  globalThis.postgres = { server, directory };
  process.env.TEST_DATABASE_URL = await server.database('admin');
}
