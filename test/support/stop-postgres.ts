import { rmSync } from 'node:fs';

export default async function stopPostgres(): Promise<void> {
  await globalThis.postgres?.server.stop();
  if (globalThis.postgres) rmSync(globalThis.postgres.directory, { recursive: true, force: true });
}
