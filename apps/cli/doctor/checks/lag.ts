import { newestSeal, readStatement } from '@app/audit';
import { EventLog } from '@app/event-store';
import {
  KafkaClient,
  kafkaSettingNames,
  kafkaSettings,
  ParkedMessages,
  readCheckpoint,
  relayCheckpoint,
} from '@app/messaging';
import type { Settings } from '@app/runtime';
import { SesListings } from '@app/ses';
import { TaskList } from '@app/tasks';
import { WebhookLanes } from '@app/webhooks';
import type { Pool } from 'pg';
import { check, failed, ok, warning, type Finding } from '../check';
import { groupsOfApps } from '../groups';
import { databaseFault, withDatabase } from '../with-database';

const needs = [
  ...(['DATABASE_URL', 'DATABASE_DIRECT_URL', 'AUDIT_SEAL_INTERVAL', 'WEBHOOK_SECRET_KEYS'] as const),
  ...kafkaSettingNames,
  'KAFKA_GROUP_PREFIX' as const,
];
type Given = Pick<Settings, (typeof needs)[number]>;

/** Seconds that an event or a task may wait before something is amiss, and before it has surely failed. */
const [lateSeconds, lostSeconds] = [60, 900];
/** Milliseconds after which a listing of SES is old; with a million identities one takes eighteen minutes. */
const oldListingMs = 3_600_000;

/** Looks how far each process is behind: with the log, with its tasks, and with what waits for an operator. */
export const lag = check({
  name: 'lag',
  needs,
  withinMs: 20_000,
  remedy: 'Look at the database, and at the brokers.',
  run: async ({ settings }) => {
    try {
      return await withDatabase(settings.DATABASE_DIRECT_URL ?? settings.DATABASE_URL, async (pool) => {
        const log = new EventLog(pool);
        try {
          const head = await log.head();
          const found = [
            ...(await readers(settings, pool, log, head)),
            ...(await onKafka(settings)),
            ...(await tasks(pool)),
            ...(await parked(pool)),
            ...(await seals(settings, pool, log, head)),
            ...(await listings(pool)),
            ...(await deliveries(pool)),
          ];
          return found.length > 0 ? found : [ok(`Nothing waits; the log is at position ${head}.`)];
        } finally {
          await log.close();
        }
      });
    } catch (error) {
      return [databaseFault(error, 'DATABASE_URL')];
    }
  },
});

const late = (seconds: number, message: string, of: string): Finding[] => {
  if (seconds <= lateSeconds) return [];
  return [(seconds > lostSeconds ? failed : warning)(message, of)];
};
const shown = (seconds: number): string =>
  seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;

/** Who reads the log in PostgreSQL: the consumers, or the relay where there is Kafka. */
async function readers(settings: Given, pool: Pool, log: EventLog, head: number): Promise<Finding[]> {
  const names = settings.KAFKA_BROKERS ? [relayCheckpoint(settings.KAFKA_TOPIC)] : ownGroups(settings);
  const findings: Finding[] = [];
  for (const name of names) {
    const position = await readCheckpoint(pool, name);
    if (position !== undefined && position >= head) continue;
    const seconds = await log.ageAbove(position ?? 0);
    const what =
      position === undefined ? 'It has never read the log' : `It is ${head - position} positions behind the log`;
    findings.push(
      ...late(
        seconds,
        `${what}, the oldest event of which waits for ${shown(seconds)}: is the process running? Its /health/live and its log say more.`,
        name,
      ),
    );
  }
  return findings;
}

const ownGroups = ({ WEBHOOK_SECRET_KEYS }: Given): string[] =>
  groupsOfApps.filter((group) => group !== 'webhooks' || WEBHOOK_SECRET_KEYS);

/** Which groups are behind on Kafka: their records have no time here, so any number of them is told. */
async function onKafka(settings: Given): Promise<Finding[]> {
  const given = kafkaSettings(settings);
  if (!given) return [];
  try {
    const admin = await new KafkaClient(given, 'sendmux-doctor').admin();
    try {
      const { KAFKA_TOPIC: topic, KAFKA_GROUP_PREFIX: prefix } = settings;
      if (!(await admin.hasTopic(topic))) return [];
      const ends = await admin.ends(topic);
      const behind = await Promise.all(
        ownGroups(settings).map(async (group): Promise<[string, number]> => {
          const committed = await admin.committed(prefix + group, topic);
          return [
            group,
            [...ends].reduce((sum, [each, end]) => sum + Math.max(0, end - (committed.get(each) ?? 0)), 0),
          ];
        }),
      );
      return behind
        .filter(([, count]) => count > mostUncommitted)
        .map(([group, count]) =>
          warning(
            `It is ${count} events behind the topic: is the process running, and does it keep up?`,
            prefix + group,
          ),
        );
    } finally {
      await admin.close();
    }
  } catch {
    // The brokers have a check of their own.
    return [];
  }
}

/** Events that a group which keeps up may have handled and not committed yet. */
const mostUncommitted = 1_000;

async function tasks(pool: Pool): Promise<Finding[]> {
  const list = new TaskList(pool);
  const findings: Finding[] = [];
  for (const name of await list.names()) {
    const { due, oldestDueSeconds } = await list.statistics(name);
    findings.push(
      ...late(
        oldestDueSeconds,
        `${due} tasks are due, the oldest for ${shown(oldestDueSeconds)}: its process does not run, or its counterpart does not answer (docs/operations/running.md).`,
        `tasks of ${name}`,
      ),
    );
  }
  return findings;
}

async function parked(pool: Pool): Promise<Finding[]> {
  const counts = await new ParkedMessages((text, values) => pool.query(text, values)).counts();
  return counts.map(({ group, count }) =>
    warning(`${count} messages are parked: \`sendmux parked list --group ${group}\` says why.`, group),
  );
}

async function seals({ AUDIT_SEAL_INTERVAL }: Given, pool: Pool, log: EventLog, head: number): Promise<Finding[]> {
  const seal = await newestSeal(pool);
  const upTo = (seal && readStatement(seal.statement)?.upTo) ?? 0;
  if (upTo >= head) return [];
  const seconds = await log.ageAbove(upTo);
  if (seconds * 1_000 <= 3 * AUDIT_SEAL_INTERVAL) return [];
  return [
    warning(
      `The log is not sealed above position ${upTo}, the oldest event there is ${shown(seconds)} old: does the sealer run? Its log says whether the log is broken.`,
      'seals',
    ),
  ];
}

async function listings(pool: Pool): Promise<Finding[]> {
  const all = await new SesListings(pool).read();
  return all
    .filter(({ ageMs, tookMs }) => ageMs > Math.max(oldListingMs, 3 * (tookMs ?? 0)))
    .map(({ shard, ageMs, hasFailed }) =>
      warning(
        `Its identities were listed ${shown(ageMs / 1_000)} ago${hasFailed ? ', and the last listing failed' : ''}: do the verification-schedulers run? Their logs say why.`,
        `SES ${shard}`,
      ),
    );
}

async function deliveries(pool: Pool): Promise<Finding[]> {
  const waiting = await new WebhookLanes(pool).waiting();
  return waiting
    .filter(({ lane }) => lane === 'live')
    .flatMap(({ subjects, oldestDueSeconds }) =>
      late(
        oldestDueSeconds,
        `${subjects} subjects wait, the oldest for ${shown(oldestDueSeconds)}: does the app webhooks run, and is there a way out of its network?`,
        'webhooks',
      ),
    );
}
