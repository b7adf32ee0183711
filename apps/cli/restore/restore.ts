import { keyFiles, newestSeal, recordRestoration, sealedUpTo, SealingKey } from '@app/audit';
import { inTransaction, type Connection } from '@app/database';
import {
  Epochs,
  eventId,
  keptUpTo,
  namesAbove,
  newestEvent,
  notInLog,
  raiseEpoch,
  readEpochs,
  restoredWithNothingSince,
} from '@app/event-store';
import {
  KafkaClient,
  kafkaSettingNames,
  kafkaSettings,
  keptOffsets,
  nameParkedEvents,
  readLastEvents,
  takeRelaysBack,
} from '@app/messaging';
import { loadSettings } from '@app/runtime';
import { nameDeliveries } from '@app/webhooks';
import { Logger } from '@nestjs/common';
import type { Pool } from 'pg';
import { groupsOfApps } from '../doctor/groups';
import { assertSealer } from '../log-encryption';
import { withPool } from '../with-pool';

export interface RestoreOptions {
  readonly reason: string;
  readonly givenUpTo: number;
  /** The moment up to which the log has all that it had, where apps have run since; undefined where none has. */
  readonly lostSince: Date | undefined;
  /** Whether it is done; otherwise it is only said. */
  readonly isMeant: boolean;
  readonly fromBeginning: boolean;
  readonly isUnsigned: boolean;
}

/** What there is to restore. */
export interface Found {
  readonly log: string;
  /** The newest event; undefined for an empty log. */
  readonly newest: { readonly event: string; readonly time: string; readonly position: number } | undefined;
  /** The position up to which the log has all that it ever had. */
  readonly keptUpTo: number;
  /**
   * The topic, with the newest position of its last records, and the lowest of those that the log has not; undefined
   * without Kafka or a topic.
   */
  readonly topic: { readonly name: string; readonly upTo: number; readonly lostFrom?: number | undefined } | undefined;
  /** Who uses the database. */
  readonly sessions: readonly string[];
  /** When it was done already, and nothing was recorded since; undefined where it is to be done. */
  readonly restoredAt: string | undefined;
}

/** What was done. */
export interface Restored {
  readonly log: string;
  readonly epoch: number;
  readonly after: number;
  readonly goesOnAfter: number;
  /** The consumer groups on Kafka whose offsets were taken back. */
  readonly groups: readonly string[];
  readonly parked: number;
  readonly deliveries: number;
  readonly isSigned: boolean;
}

/**
 * Begins a new epoch of a log that was restored, or says what that would do.
 *
 * The offsets on Kafka are taken back first, to what the database says, and then all else is one transaction. A run
 * that dies between the two is repeated as a whole.
 *
 * @throws {Error} when something else uses the database, the groups on Kafka have members, or the topic has lost events
 * that the new epoch would not make void.
 * @throws {KeyUnusable} where seals are there, and the key is not that of the sealer.
 */
export async function restoring(options: RestoreOptions): Promise<Found | Restored> {
  const settings = loadSettings(process.env, [
    ...kafkaSettingNames,
    'KAFKA_GROUP_PREFIX',
    'AUDIT_SIGNING_KEY_FILE',
    'SENDMUX_DATA_DIR',
  ]);
  const kafka = kafkaSettings(settings);
  Logger.overrideLogger(false);
  return withPool(
    async (pool) => {
      const client = kafka && new KafkaClient(kafka, 'sendmux-restore');
      const { KAFKA_TOPIC: topic, KAFKA_GROUP_PREFIX: prefix } = settings;
      const found = await look(pool, options.lostSince);
      if (found.restoredAt) return found;
      if (options.isMeant) assertAlone(found.sessions);
      const seen = client && (await lookAtTopic(pool, client, topic, `${prefix}restore-${Date.now()}`));
      if (!options.isMeant) return { ...found, topic: seen };
      assertVoid(seen, found.keptUpTo);
      const key = await signingKey(pool, options.isUnsigned, settings);
      const groups = client && seen ? await takeBack(pool, client, topic, prefix, options) : [];
      const done = await inTransaction(pool, async (transaction) => {
        const raised = await raiseEpoch(
          transaction,
          {
            reason: options.reason,
            givenUpTo: Math.max(options.givenUpTo, seen?.upTo ?? 0),
            lostSince: options.lostSince,
            now: new Date(),
          },
          await sealedUpTo(transaction),
        );
        // Again under the lock that whoever starts meanwhile waits for.
        assertAlone(await sessionsOf(transaction));
        if (key) await recordRestoration(transaction, key, raised.epoch, new Date());
        await takeRelaysBack(transaction, raised.epoch.after);
        const parked = await nameParkedEvents(transaction, raised.epoch);
        const deliveries = await nameDeliveries(
          transaction,
          raised.epoch.number,
          await namesAbove(transaction, raised.epoch.after),
        );
        return { ...raised, parked, deliveries };
      });
      const { epoch, goesOnAfter, parked, deliveries } = done;
      const { log, number, after } = epoch;
      return { log, epoch: number, after, goesOnAfter, groups, parked, deliveries, isSigned: key !== undefined };
    },
    1,
    0,
  );
}

async function look(pool: Pool, lostSince: Date | undefined): Promise<Found> {
  return inTransaction(pool, async (client) => {
    const epochs = await readEpochs(client);
    const event = await newestEvent(client);
    const newest = event && { event: eventId(event), time: event.time.toISOString(), position: event.position };
    const restoredAt = await restoredWithNothingSince(client);
    const kept = await keptUpTo(client, await sealedUpTo(client), lostSince);
    return {
      log: epochs.at(-1)?.log ?? 'without identity',
      newest,
      keptUpTo: kept,
      topic: undefined,
      sessions: await sessionsOf(client),
      restoredAt: restoredAt?.toISOString(),
    };
  });
}

/** Names the sessions of others in the database. What is used by nobody, such as a worker of the server, is none. */
async function sessionsOf(client: Connection): Promise<string[]> {
  const { rows } = await client.query<{ name: string; from: string | null; count: number }>(
    `SELECT coalesce(nullif(application_name, ''), 'a program without a name') AS name, host(client_addr) AS from,
       count(*)::int AS count
     FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
       AND coalesce(backend_type, 'client backend') = 'client backend'
     GROUP BY 1, 2 ORDER BY 1, 2`,
  );
  return rows.map(({ name, from, count }) => `${name}${from ? ` at ${from}` : ''} (${count})`);
}

function assertAlone(sessions: readonly string[]): void {
  if (sessions.length > 0)
    throw new Error(
      `Others use the database: ${sessions.join('; ')}. Stop all apps, and whatever pools their connections, first.`,
    );
}

/** Gives the key that signs the restore; undefined where nothing is sealed, or it is not to be signed. */
async function signingKey(
  pool: Pool,
  isUnsigned: boolean,
  settings: { AUDIT_SIGNING_KEY_FILE?: string | undefined; SENDMUX_DATA_DIR: string },
): Promise<SealingKey | undefined> {
  if (isUnsigned || !(await newestSeal(pool))) return undefined;
  const key = SealingKey.read(settings.AUDIT_SIGNING_KEY_FILE ?? keyFiles(settings.SENDMUX_DATA_DIR).signing);
  await assertSealer(pool, key);
  return key;
}

/** Compares the last records of a topic with the log; undefined where there is no topic. */
async function lookAtTopic(pool: Pool, client: KafkaClient, topic: string, group: string): Promise<Found['topic']> {
  const events = await readLastEvents(client, topic, group);
  if (!events) return undefined;
  const epochs = new Epochs(await readEpochs(pool));
  const standing = events.filter((event) => !epochs.isVoid(event));
  const [lost] = await notInLog(pool, standing);
  return { name: topic, upTo: Math.max(0, ...events.map(({ position }) => position)), lostFrom: lost?.position };
}

/**
 * An epoch that begins after what was lost would leave it standing. That can be only where apps have gone on since the
 * log was taken back, so that their checkpoints do not say how far it went by then.
 */
function assertVoid(topic: Found['topic'], keptUpTo: number): void {
  const { name, lostFrom } = topic ?? {};
  if (lostFrom !== undefined && lostFrom <= keptUpTo)
    throw new Error(
      `${name} has events from position ${lostFrom} on that the log has not, and apps have recorded others since. ` +
        'Say up to when the log has everything with --lost-since, such as the moment of the fail-over.',
    );
}

/**
 * Takes the consumer groups of the apps back to what their effects in the database have been made of. What Kafka has of
 * them is of the time before the restore.
 *
 * @returns the ids of the groups.
 */
async function takeBack(
  pool: Pool,
  client: KafkaClient,
  topic: string,
  prefix: string,
  { fromBeginning }: RestoreOptions,
): Promise<string[]> {
  const admin = await client.admin();
  try {
    const ends = await admin.ends(topic);
    const groups: string[] = [];
    const takeOneBack = async (group: string) => {
      const committed = await admin.committed(group, topic);
      if (committed.size === 0) return;
      const kept = fromBeginning ? new Map<number, number>() : await keptOffsets(pool, group, topic);
      const next = [...ends].map(([each, end]): [number, number] => [each, Math.min(kept.get(each) ?? 0, end)]);
      await admin.setCommitted(group, topic, new Map(next));
      groups.push(group);
    };
    // Each waits some seconds for its group, whatever the others do.
    await Promise.all(groupsOfApps.map((name) => takeOneBack(prefix + name)));
    return groups.sort();
  } finally {
    await admin.close();
  }
}
