/** Passes over a whole log, each of which can run in a process of its own, whose memory is then known. */
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { Client } from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { SealingKey, Seals, trusting, Verification } from '@app/audit';
import { openPool } from '@app/database';
import { EventLog } from '@app/event-store';
import { foldAll, rebuild } from '@app/rebuild';
import { spawnWithParent } from '../local/spawn-with-parent';
import { peakMiB } from './process-figures';

/** The key is the same in all processes of a run, so that each can verify what another has sealed. */
const key = new SealingKey(
  createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 7)]),
    format: 'der',
    type: 'pkcs8',
  }),
);

export const passes = {
  copy: async (url: string) => {
    const client = new Client({ connectionString: url });
    await client.connect();
    try {
      // COPY takes a partition, and not the table of all of them.
      const { rows } = await client.query<{ name: string }>(
        `SELECT relid::regclass::text AS name FROM pg_partition_tree('events') WHERE isleaf ORDER BY relid`,
      );
      if (rows.length === 0) throw new Error('The log has no partitions');
      for (const { name } of rows)
        await new Promise((resolve, reject) =>
          client
            .query(copyTo(`COPY ${name} TO STDOUT`))
            .on('error', reject)
            .on('end', resolve)
            .resume(),
        );
    } finally {
      await client.end();
    }
  },
  verify: async (url: string) => {
    const pool = openPool(url, 2);
    const log = new EventLog(pool);
    const { faults, unsealed, events } = await new Verification(pool, log, { trusted: trusting(key.publicKey) }).run();
    await log.close();
    await pool.end();
    if (faults.length > 0 || unsealed > 0 || events === 0) throw new Error('The log is not what was sealed');
  },
  fold: async (url: string) => void (await foldAll(url, 'domains')),
  rebuild: async (url: string) => void (await rebuild(url, 'domains')),
};
export type Pass = keyof typeof passes;

/** Seals all that is in a log. */
export async function seal(url: string): Promise<void> {
  const pool = openPool(url, 2, 600_000);
  const log = new EventLog(pool);
  await new Seals(pool, log, key).seal();
  await log.close();
  await pool.end();
}

/** What a pass has taken. */
export interface Taken {
  readonly seconds: number;
  /** The largest resident set of the process, in MiB. */
  readonly peakMiB: number;
}

/** Runs a pass in a process that does nothing else. */
export async function alone(name: Pass, url: string): Promise<Taken> {
  // The heap is small, so that garbage that is not collected yet does not count.
  const child = spawnWithParent(['--max-old-space-size=128', __filename, name, url], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new Error(`${name} ended with ${status}`);
  return JSON.parse(said) as Taken;
}

async function main(name: Pass, url: string): Promise<void> {
  const begin = performance.now();
  await passes[name](url);
  const taken: Taken = {
    seconds: (performance.now() - begin) / 1_000,
    peakMiB: Math.round(peakMiB()),
  };
  console.log(JSON.stringify(taken));
}

if (require.main === module) void main(process.argv[2] as Pass, process.argv[3]!);
