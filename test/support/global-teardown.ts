import { rmSync } from 'node:fs';

export default async function globalTeardown(): Promise<void> {
  if (!globalThis.counterparts) return;
  const { postgres, kafka, directory } = globalThis.counterparts;
  await Promise.all([postgres.stop(), kafka.close()]);
  rmSync(directory, { recursive: true, force: true });
}
