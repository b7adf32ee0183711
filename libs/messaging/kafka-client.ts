import { Logger } from '@nestjs/common';
import type { Settings } from '@app/runtime';
import {
  Kafka,
  logLevel,
  Partitioners,
  type Admin,
  type Consumer,
  type IHeaders,
  type KafkaConfig,
  type logCreator,
  type Producer,
  type SASLOptions,
} from 'kafkajs';
import type { CloudEvent, ReceivedMessage } from './cloud-event';

/*
 * The one file that knows which Kafka client is used. kafkajs 2.2.4 is called the way that loses nothing: one send at a
 * time, which counts only when its result names every partition (docs/decisions/0012).
 */

export interface KafkaSettings {
  /** `host:port` */
  readonly brokers: readonly string[];
  readonly tls: boolean;
  readonly sasl?: {
    readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: string;
  };
}

export interface TopicSettings {
  readonly topic: string;
  readonly partitions: number;
  /** -1: the brokers' own default. */
  readonly replication: number;
}

/** All that it takes to publish. */
export const kafkaSettingNames = [
  ...(['KAFKA_BROKERS', 'KAFKA_TLS', 'KAFKA_SASL_MECHANISM', 'KAFKA_USERNAME', 'KAFKA_PASSWORD'] as const),
  ...(['KAFKA_TOPIC', 'KAFKA_PARTITIONS', 'KAFKA_REPLICATION'] as const),
];

/** The settings of Kafka; undefined when the events do not go through it. */
export function kafkaSettings(settings: Pick<Settings, (typeof kafkaSettingNames)[number]>): KafkaSettings | undefined {
  if (!settings.KAFKA_BROKERS) return undefined;
  const mechanism = settings.KAFKA_SASL_MECHANISM;
  return {
    brokers: settings.KAFKA_BROKERS,
    tls: settings.KAFKA_TLS,
    ...(mechanism && {
      sasl: { mechanism, username: settings.KAFKA_USERNAME ?? '', password: settings.KAFKA_PASSWORD ?? '' },
    }),
  };
}

export const topicSettings = (settings: Pick<Settings, (typeof kafkaSettingNames)[number]>): TopicSettings => ({
  topic: settings.KAFKA_TOPIC,
  partitions: settings.KAFKA_PARTITIONS,
  replication: settings.KAFKA_REPLICATION,
});

/** Brokers that do not answer, or not yet: to be tried again. */
export class KafkaAway extends Error {
  override readonly name = 'KafkaAway';
}

/** What no other try mends: rights, names, sizes. */
const lasting = new Set([
  'CLUSTER_AUTHORIZATION_FAILED',
  'GROUP_AUTHORIZATION_FAILED',
  'TOPIC_AUTHORIZATION_FAILED',
  'ILLEGAL_SASL_STATE',
  'INVALID_GROUP_ID',
  'INVALID_TOPIC_EXCEPTION',
  'MESSAGE_TOO_LARGE',
  'RECORD_LIST_TOO_LARGE',
  'POLICY_VIOLATION',
  'SASL_AUTHENTICATION_FAILED',
  'UNSUPPORTED_SASL_MECHANISM',
  'UNSUPPORTED_VERSION',
  'KafkaJSNotImplemented',
  'KafkaJSSASLAuthenticationError',
  'KafkaJSUnsupportedMagicByteInMessageSet',
]);

/** As this lib's callers are told: `KafkaAway`, or the error itself when it is one that lasts. */
function told(error: unknown): Error {
  for (let each: unknown = error; each instanceof Error; each = each.cause) {
    const { type, name } = each as Error & { type?: string };
    if (lasting.has(type ?? '') || lasting.has(name)) return each;
  }
  return new KafkaAway(`Kafka: ${(error as Error).message}`, { cause: error });
}

async function telling<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw told(error);
  }
}

const initialRetryTime = 100;
const maxRetryTime = 1_000;

/** Connections of one process to one cluster. */
export class KafkaClient {
  private readonly logger = new Logger('kafka');
  private readonly kafka: Kafka;

  constructor(settings: KafkaSettings, clientId: string) {
    const config: KafkaConfig = {
      clientId,
      brokers: [...settings.brokers],
      ssl: settings.tls,
      ...(settings.sasl && { sasl: settings.sasl as SASLOptions }),
      connectionTimeout: 3_000,
      requestTimeout: 10_000,
      retry: { initialRetryTime, maxRetryTime, retries: 5, restartOnFailure: () => Promise.resolve(false) },
      logLevel: logLevel.INFO,
      logCreator: this.logs(),
    };
    this.kafka = new Kafka(config);
  }

  /** @throws {KafkaAway} */
  admin(): Promise<KafkaAdmin> {
    const admin = this.kafka.admin();
    return telling(async () => {
      await admin.connect();
      return new KafkaAdmin(admin);
    });
  }

  /** @throws {KafkaAway} */
  publisher(topic: string, partitions: number): Promise<Publisher> {
    const producer = this.kafka.producer({
      idempotent: true,
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner,
      // The least that an idempotent producer may have. Beyond it the caller begins again from its checkpoint, with a new one.
      retry: { initialRetryTime, maxRetryTime, retries: 1 },
    });
    return telling(async () => {
      await producer.connect();
      return new Publisher(producer, topic, partitions);
    });
  }

  /** A member of a group; it joins, reads and heartbeats until it is closed or crashes. */
  async member(group: string, topic: string, reading: Reading): Promise<GroupMember> {
    const consumer = this.kafka.consumer({
      groupId: group,
      allowAutoTopicCreation: false,
      // A process that vanishes keeps its partitions for so long.
      sessionTimeout: 10_000,
      heartbeatInterval: 1_000,
      rebalanceTimeout: 10_000,
      // kafkajs looks up from a long poll only when it ends.
      maxWaitTimeInMs: 200,
      metadataMaxAge: 30_000,
    });
    const member = new GroupMember(consumer, topic, reading);
    await telling(() => member.join());
    return member;
  }

  /** At debug only: the client calls "error" what it tries again, and what does not pass is told by the caller. */
  private logs(): logCreator {
    return () =>
      ({ namespace, log: { message, error } }) =>
        this.logger.debug(
          `${namespace ? `${namespace}: ` : ''}${message}${typeof error === 'string' ? ` (${error})` : ''}`,
        );
  }
}

export class KafkaAdmin {
  constructor(private readonly admin: Admin) {}

  /**
   * Creates the topic when it is absent. It keeps its records for ever: a subscriber may start years late.
   *
   * @returns the number of its partitions, which is the topic's own when it is there already.
   * @throws {KafkaAway}
   */
  ensureTopic({ topic, partitions, replication }: TopicSettings): Promise<number> {
    return telling(async () => {
      if (!(await this.admin.listTopics()).includes(topic))
        await this.admin.createTopics({
          waitForLeaders: true,
          topics: [
            {
              topic,
              numPartitions: partitions,
              replicationFactor: replication,
              configEntries: [{ name: 'retention.ms', value: '-1' }],
            },
          ],
        });
      const { topics } = await this.admin.fetchTopicMetadata({ topics: [topic] });
      return topics[0]!.partitions.length;
    });
  }

  /** @throws {KafkaAway} */
  hasTopic(topic: string): Promise<boolean> {
    return telling(async () => (await this.admin.listTopics()).includes(topic));
  }

  /**
   * The offset after the last record of each partition.
   *
   * @throws {KafkaAway}
   */
  ends(topic: string): Promise<Map<number, number>> {
    return telling(async () => {
      const offsets = await this.admin.fetchTopicOffsets(topic);
      return new Map(offsets.map(({ partition, high }) => [partition, Number(high)]));
    });
  }

  /**
   * The next offset to read of each partition that the group has committed one for.
   *
   * @throws {KafkaAway}
   */
  committed(group: string, topic: string): Promise<Map<number, number>> {
    return telling(async () => {
      const [offsets] = await this.admin.fetchOffsets({ groupId: group, topics: [topic] });
      const known = offsets!.partitions.filter(({ offset }) => offset !== '-1');
      return new Map(known.map(({ partition, offset }) => [partition, Number(offset)]));
    });
  }

  close(): Promise<void> {
    return this.admin.disconnect();
  }
}

/** Records to one topic, acknowledged by all replicas in sync (acks=all), by an idempotent producer. */
export class Publisher {
  private readonly partitionOf: (key: string) => number;

  constructor(
    private readonly producer: Producer,
    private readonly topic: string,
    partitions: number,
  ) {
    this.partitionOf = partitioner(partitions);
  }

  /**
   * Resolves when all of them are acknowledged. The caller sends one batch at a time.
   *
   * @throws {KafkaAway} when it is not known that they are: some may have arrived.
   */
  async send(events: readonly CloudEvent[]): Promise<void> {
    const expected = new Set<number>();
    const messages = events.map(({ key, value, headers, timestamp }) => {
      const partition = this.partitionOf(key);
      expected.add(partition);
      return { key, value, partition, headers: headers, timestamp: String(timestamp) };
    });
    await telling(async () => {
      const results = await this.producer.send({ topic: this.topic, acks: -1, messages });
      // A retry of the client forgets a partition that has moved to a broker which had answered, and resolves all the same.
      for (const { partition, errorCode } of results) if (errorCode === 0) expected.delete(partition);
      if (expected.size > 0) throw new Error(`no acknowledgement of partition ${[...expected].join(', ')}`);
    });
  }

  close(): Promise<void> {
    return this.producer.disconnect();
  }
}

/** Where the Java client's default partitioner puts a key (murmur2), so that others who write the topic agree. */
export function partitioner(partitions: number): (key: string) => number {
  const choose = Partitioners.DefaultPartitioner();
  const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
    ...{ partitionErrorCode: 0, partitionId, leader: 0, replicas: [], isr: [] },
  }));
  return (key) => choose({ topic: '', partitionMetadata, message: { key, value: null } });
}

/** What a member of a group is told. None of the calls may wait for the work that it brings. */
export interface Reading {
  /** These partitions are the member's from now on, and no others; told before any record of them. */
  assigned(partitions: readonly number[]): void;
  /** @param end the offset after the last record of the partition. */
  records(partition: number, messages: readonly ReceivedMessage[], end: number): void;
  /** The group gives its partitions out anew: what is done should be committed now. */
  rebalancing(): void;
  /** The member reads no more. */
  crashed(error: Error): void;
}

export class GroupMember {
  private closed = false;

  constructor(
    private readonly consumer: Consumer,
    private readonly topic: string,
    private readonly reading: Reading,
  ) {}

  async join(): Promise<void> {
    const { consumer, topic, reading } = this;
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => reading.assigned(payload.memberAssignment[topic] ?? []));
    consumer.on(consumer.events.REBALANCING, () => reading.rebalancing());
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (!this.closed) reading.crashed(told(payload.error));
    });
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      // As soon as they are handed over: handlers work at their own pace, and the member goes on to heartbeat.
      eachBatchAutoResolve: true,
      // eslint-disable-next-line @typescript-eslint/require-await -- the client wants a promise
      eachBatch: async ({ batch }) => {
        const messages = batch.messages.map(({ offset, key, value, headers }) => ({
          ...{ partition: batch.partition, offset: Number(offset), key, value, headers: texts(headers) },
        }));
        reading.records(batch.partition, messages, Number(batch.highWatermark));
      },
    });
  }

  /**
   * @param offsets the next offset to read, by partition.
   * @throws {KafkaAway} also when the group has given the partitions to others.
   */
  commit(offsets: ReadonlyMap<number, number>): Promise<void> {
    const { topic } = this;
    return telling(() =>
      this.consumer.commitOffsets(
        [...offsets].map(([partition, offset]) => ({ topic, partition, offset: `${offset}` })),
      ),
    );
  }

  pause(partition: number): void {
    this.consumer.pause([{ topic: this.topic, partitions: [partition] }]);
  }

  resume(partition: number): void {
    this.consumer.resume([{ topic: this.topic, partitions: [partition] }]);
  }

  /** Leaves the group, so that the others need not wait for it. */
  async close(): Promise<void> {
    this.closed = true;
    await this.consumer.disconnect();
  }
}

function texts(headers: IHeaders | undefined): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers ?? {}).map(([name, value]) => {
      const last = Array.isArray(value) ? value.at(-1) : value;
      return [name, last?.toString('utf8') ?? ''];
    }),
  );
}
