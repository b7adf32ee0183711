import { mailServerUrls } from '@app/database';
import { MailServerTables } from '@app/mail-server';
import { KafkaClient, kafkaSettingNames, kafkaSettings } from '@app/messaging';
import { compare, projectionNames, rebuild } from '@app/rebuild';
import { loadSettings, sesShards, shardSettings } from '@app/runtime';
import { SesShards, SharedTurns } from '@app/ses';
import { SesWriter } from '@app/ses-writer';
import { provisioningLists, reconcileTask, TaskList } from '@app/tasks';
import { Logger } from '@nestjs/common';
import type { Pool } from 'pg';
import { interruption } from '../interruption';
import { Progress, stoppable } from '../progress';
import { databaseUrl, givenKeyRing, withPool } from '../with-pool';
import { Findings, type Area, type Asked, type Outcome } from './findings';
import { compareKafka } from './kafka';
import { compareMailServer } from './mail-server';
import { compareSes } from './ses';

export interface ReconcileOptions {
  readonly areas: readonly Area[];
  readonly asked: Asked;
  readonly limit: number;
  readonly isDeep: boolean;
  readonly account: string | undefined;
}

/** What each comparison needs. */
interface Comparing extends ReconcileOptions {
  readonly pool: Pool;
  readonly findings: Findings;
  readonly signal: AbortSignal;
}

/**
 * Compares the log with what was made from it, area by area, and repairs what it is asked to. A run that is stopped has
 * repaired a part; the next one finds the rest.
 *
 * @throws {Interrupted}
 * @throws {Error} when something cannot be read, or an area is asked for that the settings do not have.
 */
export async function reconcile(options: ReconcileOptions): Promise<Outcome> {
  Logger.overrideLogger(false);
  const signal = interruption();
  const findings = new Findings(options.asked, options.limit);
  const run: Record<Area, (comparing: Comparing) => Promise<void>> = {
    ses: overSes,
    'mail-server': overMailServer,
    kafka: overKafka,
    'read-models': overReadModels,
  };
  await withPool(
    async (pool) => {
      // The read models first: the others are compared with them.
      for (const area of (['read-models', 'ses', 'mail-server', 'kafka'] as const).filter((each) =>
        options.areas.includes(each),
      ))
        await run[area]({ ...options, pool, findings, signal });
    },
    2,
    0,
  );
  return findings.outcome();
}

async function overReadModels({ findings, signal }: Comparing): Promise<void> {
  const [url, keyRing] = [databaseUrl(), givenKeyRing()];
  for (const name of projectionNames) {
    let rows = 0;
    const progress = new Progress({ label: `Comparing ${name}`, unit: 'events' });
    await stoppable(progress, 'Nothing is half done.', () =>
      compare(url, name, () => void rows++, { signal, keyRing, onProgress: (events) => progress.reached(events) }),
    );
    if (rows > 0)
      await findings.take(
        {
          area: 'read-models',
          kind: 'different',
          what: name,
          log: 'other rows',
          there: `${rows} rows differ: \`sendmux projections rebuild ${name} --check\` shows them`,
        },
        { fromLog: async () => void (await rebuild(url, name, { signal, keyRing })) },
      );
  }
}

async function overSes({ pool, findings, signal, isDeep, account }: Comparing): Promise<void> {
  const settings = loadSettings(process.env, [...shardSettings, 'SES_TIMEOUT']);
  const shards = new SesShards(
    sesShards(settings),
    (shard) => new SesWriter({ ...shard, timeoutMs: settings.SES_TIMEOUT }, new SharedTurns(pool, shard)),
  );
  const progress = new Progress({ label: 'Comparing identities of SES', unit: 'identities' });
  try {
    await stoppable(progress, 'Compare again to go on.', () =>
      compareSes({ pool, shards, findings, isDeep, account, signal, reached: (done) => progress.reached(done) }),
    );
  } finally {
    shards.close();
  }
}

async function overMailServer({ pool, findings, signal, asked }: Comparing): Promise<void> {
  const settings = loadSettings(process.env, ['MAIL_SERVER_DATABASE_URL', 'MAIL_SERVER_DATABASE_DIRECT_URL']);
  const tables = await MailServerTables.open({ setting: 'MAIL_SERVER_DATABASE_URL', ...mailServerUrls(settings) });
  const progress = new Progress({ label: 'Comparing the mail server', unit: 'rows' });
  try {
    await stoppable(progress, 'Compare again to go on.', () =>
      compareMailServer({ pool, tables, findings, signal, reached: (done) => progress.reached(done) }),
    );
    // The relays and the mail of roles are not in the log, but in settings and accounts.
    for (const key of asked.fromLog ? ['relays', 'role-mail'] : [])
      await new TaskList(pool).put(provisioningLists.placement, key, reconcileTask, { at: new Date().toISOString() });
  } finally {
    await tables.close();
  }
}

async function overKafka({ pool, findings, signal }: Comparing): Promise<void> {
  const settings = loadSettings(process.env, [...kafkaSettingNames, 'KAFKA_GROUP_PREFIX']);
  const kafka = kafkaSettings(settings);
  if (!kafka) return;
  const progress = new Progress({ label: `Reading ${settings.KAFKA_TOPIC}`, unit: 'records' });
  await stoppable(progress, 'Compare again to go on.', () =>
    compareKafka({
      pool,
      client: new KafkaClient(kafka, 'sendmux-reconcile'),
      topic: settings.KAFKA_TOPIC,
      group: `${settings.KAFKA_GROUP_PREFIX}reconcile-${Date.now()}`,
      findings,
      signal,
      reached: (records) => progress.reached(records),
    }),
  );
}
