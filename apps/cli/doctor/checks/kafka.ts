import { KafkaClient, kafkaSettingNames, kafkaSettings, topicFaults, type KafkaAdmin } from '@app/messaging';
import type { Settings } from '@app/runtime';
import { check, failed, ok, skipped, warning, type Finding } from '../check';
import { reasonOf } from '../diagnose';
import { groupsOfApps } from '../groups';

const needs = [...kafkaSettingNames, 'KAFKA_GROUP_PREFIX', 'AUDIT_TOPIC'] as const;
type Given = Pick<Settings, (typeof needs)[number]>;

/** What each operation on a topic is for; `lasts` where nothing is published or read without it. */
const rights: readonly { readonly operation: string; readonly isNeeded: boolean; readonly by: string }[] = [
  { operation: 'WRITE', isNeeded: true, by: 'event-relay and the sealer publish with it' },
  { operation: 'READ', isNeeded: true, by: 'consumers read with it' },
  { operation: 'DESCRIBE_CONFIGS', isNeeded: false, by: 'event-relay looks with it whether the topic keeps events' },
  { operation: 'ALTER_CONFIGS', isNeeded: false, by: 'event-relay mends with it a topic that would lose events' },
];

/** Looks at the brokers, at both topics with what we may do there, and at the groups. */
export const kafka = check({
  name: 'kafka',
  needs,
  withinMs: 25_000,
  remedy: 'Look at KAFKA_BROKERS, and at the way to each of them: the addresses that the brokers advertise count.',
  run: async ({ settings, signal }) => {
    const given = kafkaSettings(settings);
    if (!given) return [skipped('KAFKA_BROKERS is not set: events are read from the log in PostgreSQL.')];
    let admin: KafkaAdmin;
    let reader: KafkaAdmin | undefined;
    try {
      admin = await new KafkaClient(given, 'sendmux-doctor').admin();
    } catch (error) {
      return [
        failed(
          `${reasonOf(error as Error)}. Mend KAFKA_BROKERS, what the brokers want to know us by (KAFKA_SASL_*, KAFKA_TLS), or the way to them.`,
        ),
      ];
    }
    signal.addEventListener('abort', () => void admin.close().catch(() => undefined));
    try {
      // kafkajs does not ask for rights.
      reader = await new KafkaClient({ ...given, client: 'platformatic' }, 'sendmux-doctor').admin();
      const topics = await Promise.all(
        [settings.KAFKA_TOPIC, settings.AUDIT_TOPIC].map((topic) => topicOf(topic, admin, reader!)),
      );
      return [...topics.flat(), ...(await groupsOf(settings, admin))];
    } finally {
      await Promise.all([admin.close(), reader?.close()]);
    }
  },
});

async function topicOf(topic: string, admin: KafkaAdmin, reader: KafkaAdmin): Promise<Finding[]> {
  if (!(await admin.hasTopic(topic)))
    return [
      warning('It is not there, or may not be seen. event-relay and the sealer make theirs when they start.', topic),
    ];
  const state = await reader.topicState!(topic);
  const missing = rights.filter(({ operation }) => !state.rights.has(operation));
  const findings: Finding[] = missing.map(({ operation, isNeeded, by }) =>
    (isNeeded ? failed : warning)(
      `The user may not ${operation}: ${by}. Allow it, unless another user does that.`,
      topic,
    ),
  );
  if (state.rights.has('DESCRIBE_CONFIGS')) {
    const settings = await admin.topicSettings(topic);
    const { losing, refusing } = topicFaults(settings);
    findings.push(
      ...[...losing].map(([name, value]) =>
        failed(
          `${name} is ${settings.get(name)!.value}, by which the brokers delete events: set it to ${value}. event-relay does so when it may.`,
          topic,
        ),
      ),
      ...[...refusing].map(([name, value]) =>
        warning(
          `${name} is ${settings.get(name)!.value}: longer events are parked. Set it to ${value} or more.`,
          topic,
        ),
      ),
    );
    const least = Number(settings.get('min.insync.replicas')?.value ?? 1);
    if (state.brokers > 1 && (state.replicas < 2 || least < 2))
      findings.push(
        warning(
          `It has ${state.replicas} replicas, and min.insync.replicas is ${least}: the loss of one broker can lose events. Give it three, and two.`,
          topic,
        ),
      );
    else if (state.replicas > 1 && state.inSync < least)
      findings.push(
        failed(`Only ${state.inSync} replicas are in sync, and ${least} have to be: mend the brokers.`, topic),
      );
  }
  return findings.length > 0 ? findings : [ok(`It keeps events for good; ${state.replicas} replicas.`, topic)];
}

async function groupsOf({ KAFKA_GROUP_PREFIX, KAFKA_TOPIC }: Given, admin: KafkaAdmin): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const group of groupsOfApps.map((name) => KAFKA_GROUP_PREFIX + name))
    try {
      await admin.committed(group, KAFKA_TOPIC);
    } catch (error) {
      findings.push(failed(`${reasonOf(error as Error)}. Allow Read and Describe on the group.`, group));
    }
  return findings;
}
