import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { Settings } from '@app/runtime';
import {
  ConfigResourceTypes,
  ConfigSource,
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
 * The one file that depends on the Kafka client library. It calls kafkajs 2.2.4 in the way that loses nothing: one send
 * at a time, which counts only when its result names every partition (docs/decisions/0012).
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
  /** Replicas of the topic's partitions; -1 is the brokers' default. */
  readonly replication: number;
}

/** The settings that a process needs in order to publish. */
export const kafkaSettingNames = [
  ...(['KAFKA_BROKERS', 'KAFKA_TLS', 'KAFKA_SASL_MECHANISM', 'KAFKA_USERNAME', 'KAFKA_PASSWORD'] as const),
  ...(['KAFKA_TOPIC', 'KAFKA_PARTITIONS', 'KAFKA_REPLICATION'] as const),
];

/** Gives the settings of Kafka; undefined when events are not published to Kafka. */
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

/** Thrown when the brokers do not answer, or not yet, so that trying again may help. */
export class KafkaAway extends Error {
  override readonly name = 'KafkaAway';
}

/**
 * Thrown when the brokers refuse a record for what it is, so that no retry makes them accept it. Nothing of its
 * partition was written by the send; records of other partitions may have been. The publisher must be replaced, since
 * its sequence numbers are no longer those of the brokers.
 */
export class RecordRefused extends Error {
  override readonly name = 'RecordRefused';
  constructor(
    /** The name of the error in the protocol, such as `MESSAGE_TOO_LARGE`. */
    readonly reason: string,
    cause: Error,
  ) {
    super(`Kafka refuses the record: ${reason}, ${cause.message}`, { cause });
  }
}

/**
 * What `RecordRefused.reason` is for a timestamp too far from the broker's clock (`message.timestamp.after.max.ms`).
 */
export const timestampRefused = 'INVALID_TIMESTAMP';

const refusals = new Set([
  timestampRefused,
  'MESSAGE_TOO_LARGE',
  'RECORD_LIST_TOO_LARGE',
  'UNSUPPORTED_FOR_MESSAGE_FORMAT',
]);
/** INVALID_RECORD, which the client does not know. */
const invalidRecord = /Unknown error code 87\b/;

/** Errors that retrying does not repair, such as missing rights and wrong names. */
const lasting = new Set([
  'CLUSTER_AUTHORIZATION_FAILED',
  'GROUP_AUTHORIZATION_FAILED',
  'TOPIC_AUTHORIZATION_FAILED',
  'ILLEGAL_SASL_STATE',
  'INVALID_GROUP_ID',
  'INVALID_TOPIC_EXCEPTION',
  'POLICY_VIOLATION',
  'SASL_AUTHENTICATION_FAILED',
  'UNSUPPORTED_SASL_MECHANISM',
  'UNSUPPORTED_VERSION',
  'KafkaJSNotImplemented',
  'KafkaJSSASLAuthenticationError',
  'KafkaJSUnsupportedMagicByteInMessageSet',
]);

/** The errors of a topic that was just created, until every broker has heard of it. */
const notYetKnown: ReadonlySet<string> = new Set(['UNKNOWN_TOPIC_OR_PARTITION', 'LEADER_NOT_AVAILABLE']);

/**
 * Gives the error that callers of this lib get: `KafkaAway`, `RecordRefused`, or the error itself when retrying does
 * not repair it.
 */
function lastingOrAway(error: unknown): Error {
  for (let each: unknown = error; each instanceof Error; each = each.cause) {
    const { type, name } = each as Error & { type?: string };
    if (refusals.has(type ?? '')) return new RecordRefused(type!, each);
    if (invalidRecord.test(each.message)) return new RecordRefused('INVALID_RECORD', each);
    if (lasting.has(type ?? '') || lasting.has(name)) return each;
  }
  return new KafkaAway(`Kafka: ${(error as Error).message}`, { cause: error });
}

async function withKafkaErrors<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    throw lastingOrAway(error);
  }
}

const initialRetryTime = 100;
const maxRetryTime = 1_000;

/** Opens the connections of one process to one cluster. */
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

  /**
   * Connects a client for topics and offsets.
   *
   * @throws {KafkaAway}
   */
  admin(): Promise<KafkaAdmin> {
    const admin = this.kafka.admin();
    return withKafkaErrors(async () => {
      await admin.connect();
      return new KafkaAdmin(admin);
    });
  }

  /**
   * Connects a producer for one topic.
   *
   * @throws {KafkaAway}
   */
  publisher(topic: string, partitions: number): Promise<Publisher> {
    const producer = this.kafka.producer({
      idempotent: true,
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner,
      // One retry is the least that an idempotent producer may have. After that the caller makes a new producer and
      // starts again at its checkpoint.
      retry: { initialRetryTime, maxRetryTime, retries: 1 },
    });
    return withKafkaErrors(async () => {
      await producer.connect();
      return new Publisher(producer, topic, partitions);
    });
  }

  /** Makes a member of a group, which joins, reads and sends heartbeats until it is closed or crashes. */
  async member(group: string, topic: string, reading: Reading): Promise<GroupMember> {
    const consumer = this.kafka.consumer({
      groupId: group,
      allowAutoTopicCreation: false,
      // A process that vanishes keeps its partitions for this long.
      sessionTimeout: 10_000,
      heartbeatInterval: 1_000,
      rebalanceTimeout: 10_000,
      // kafkajs notices other requests only when a long poll ends.
      maxWaitTimeInMs: 200,
      metadataMaxAge: 30_000,
    });
    const member = new GroupMember(consumer, topic, reading);
    await withKafkaErrors(() => member.join());
    return member;
  }

  /** Logs at debug level only, since the client reports as errors what it retries, and callers report what remains. */
  private logs(): logCreator {
    return () =>
      ({ namespace, log: { message, error } }) =>
        this.logger.debug(
          `${namespace ? `${namespace}: ` : ''}${message}${typeof error === 'string' ? ` (${error})` : ''}`,
        );
  }
}

export interface TopicSetting {
  readonly value: string;
  /** Whether the topic itself has it, and not the brokers for all topics. */
  readonly isOwn: boolean;
}

export class KafkaAdmin {
  constructor(private readonly admin: Admin) {}

  /**
   * Creates the topic when it is absent, with unlimited retention, since a subscriber may start years later.
   *
   * @returns the number of partitions; that of the existing topic when there is one.
   * @throws {KafkaAway}
   */
  ensureTopic({ topic, partitions, replication }: TopicSettings): Promise<number> {
    return withKafkaErrors(async () => {
      if (!(await this.admin.listTopics()).includes(topic))
        await this.admin.createTopics({
          waitForLeaders: false,
          topics: [
            {
              topic,
              numPartitions: partitions,
              replicationFactor: replication,
              configEntries: [{ name: 'retention.ms', value: '-1' }],
            },
          ],
        });
      return this.partitionsOf(topic);
    });
  }

  /** Waits for a topic that was just created: a broker may not know it yet, or no leader of its partitions. */
  private async partitionsOf(topic: string): Promise<number> {
    for (let tries = 1; ; tries++) {
      const isLast = tries === 40;
      try {
        const { topics } = await this.admin.fetchTopicMetadata({ topics: [topic] });
        const { partitions } = topics[0]!;
        if (isLast || partitions.every(({ leader }) => leader >= 0)) return partitions.length;
      } catch (error) {
        if (isLast || !notYetKnown.has((error as { type?: string }).type ?? '')) throw error;
      }
      await delay(250);
    }
  }

  /**
   * Gives the settings of a topic by name, those that it has from the brokers included.
   *
   * @throws {KafkaAway}
   */
  topicSettings(topic: string): Promise<Map<string, TopicSetting>> {
    return withKafkaErrors(async () => {
      const { resources } = await this.admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
      });
      return new Map(
        resources[0]!.configEntries.map(({ configName, configValue, configSource }) => [
          configName,
          { value: configValue, isOwn: configSource === ConfigSource.TOPIC_CONFIG },
        ]),
      );
    });
  }

  /**
   * Replaces all settings that the topic has of its own.
   *
   * @throws {KafkaAway}
   */
  setTopicSettings(topic: string, values: ReadonlyMap<string, string>): Promise<void> {
    const configEntries = [...values].map(([name, value]) => ({ name, value }));
    return withKafkaErrors(async () => {
      await this.admin.alterConfigs({
        validateOnly: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }],
      });
    });
  }

  /**
   * Tells whether the topic exists.
   *
   * @throws {KafkaAway}
   */
  hasTopic(topic: string): Promise<boolean> {
    return withKafkaErrors(async () => (await this.admin.listTopics()).includes(topic));
  }

  /**
   * Gives the offset after the last record of each partition.
   *
   * @throws {KafkaAway}
   */
  ends(topic: string): Promise<Map<number, number>> {
    return withKafkaErrors(async () => {
      const offsets = await this.admin.fetchTopicOffsets(topic);
      return new Map(offsets.map(({ partition, high }) => [partition, Number(high)]));
    });
  }

  /**
   * Gives the next offset to read of each partition for which the group has committed one.
   *
   * @throws {KafkaAway}
   */
  committed(group: string, topic: string): Promise<Map<number, number>> {
    return withKafkaErrors(async () => {
      const [offsets] = await this.admin.fetchOffsets({ groupId: group, topics: [topic] });
      const known = offsets!.partitions.filter(({ offset }) => offset !== '-1');
      return new Map(known.map(({ partition, offset }) => [partition, Number(offset)]));
    });
  }

  close(): Promise<void> {
    return this.admin.disconnect();
  }
}

/** Sends records to one topic with an idempotent producer, acknowledged by all in-sync replicas (acks=all). */
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
   * Resolves when all events are acknowledged. The caller sends one batch at a time. A record has the time of its
   * event, or the present time where the event is from a clock that is ahead: brokers refuse records from the future.
   *
   * @param timestamps false for records without a timestamp, which brokers accept whatever their clock says.
   * @throws {KafkaAway} when the acknowledgement is not certain; some of the events may have been written.
   * @throws {RecordRefused} when the brokers refuse one of the events for good.
   */
  async send(events: readonly CloudEvent[], timestamps = true): Promise<void> {
    const expected = new Set<number>();
    const now = Date.now();
    const messages = events.map(({ key, value, headers, timestamp }) => {
      const partition = this.partitionOf(key);
      expected.add(partition);
      return {
        key,
        value,
        partition,
        headers: headers,
        timestamp: timestamps ? String(Math.min(timestamp, now)) : '-1',
      };
    });
    await withKafkaErrors(async () => {
      const results = await this.producer.send({ topic: this.topic, acks: -1, messages });
      // When the client retries, it can leave out a partition whose leader has moved to a broker that had answered
      // already, and still resolves.
      for (const { partition, errorCode } of results) if (errorCode === 0) expected.delete(partition);
      if (expected.size > 0) throw new Error(`no acknowledgement of partition ${[...expected].join(', ')}`);
    });
  }

  close(): Promise<void> {
    return this.producer.disconnect();
  }
}

/**
 * Chooses the partition of a key as the Java client's default partitioner does (murmur2), so that other programs that
 * write to the topic agree.
 */
export function partitioner(partitions: number): (key: string) => number {
  const choose = Partitioners.DefaultPartitioner();
  const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
    partitionErrorCode: 0,
    partitionId,
    leader: 0,
    replicas: [],
    isr: [],
  }));
  return (key) => choose({ topic: '', partitionMetadata, message: { key, value: null } });
}

/** Receives what happens to a member of a group. The methods must return without waiting for handlers. */
export interface Reading {
  /** Called before any record of these partitions: the member now has them, and no others. */
  assigned(partitions: readonly number[]): void;
  /** @param end the offset after the last record of the partition. */
  records(partition: number, messages: readonly ReceivedMessage[], end: number): void;
  /** Called when the group reassigns its partitions, so that finished offsets should be committed now. */
  rebalancing(): void;
  /** Called when the member has stopped reading. */
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
      if (!this.closed) reading.crashed(lastingOrAway(payload.error));
    });
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      // Offsets resolve as soon as the records are passed on: handlers run at their own pace while the member sends
      // heartbeats.
      eachBatchAutoResolve: true,
      // eslint-disable-next-line @typescript-eslint/require-await -- the client wants a promise
      eachBatch: async ({ batch }) => {
        const messages = batch.messages.map(({ offset, key, value, headers }) => ({
          partition: batch.partition,
          offset: Number(offset),
          key,
          value,
          headers: texts(headers),
        }));
        reading.records(batch.partition, messages, Number(batch.highWatermark));
      },
    });
  }

  /**
   * @param offsets the next offset to read, by partition.
   * @throws {KafkaAway} also when the group has given the partitions to other members.
   */
  commit(offsets: ReadonlyMap<number, number>): Promise<void> {
    const { topic } = this;
    return withKafkaErrors(() =>
      this.consumer.commitOffsets(
        [...offsets].map(([partition, offset]) => ({ topic, partition, offset: `${offset}` })),
      ),
    );
  }

  /** @throws {KafkaAway} when the member has crashed or left, since the client then refuses the call. */
  pause(partition: number): void {
    try {
      this.consumer.pause([{ topic: this.topic, partitions: [partition] }]);
    } catch (error) {
      throw lastingOrAway(error);
    }
  }

  /** @throws {KafkaAway} when the member has crashed or left, since the client then refuses the call. */
  resume(partition: number): void {
    try {
      this.consumer.resume([{ topic: this.topic, partitions: [partition] }]);
    } catch (error) {
      throw lastingOrAway(error);
    }
  }

  /** Leaves the group, so that the other members get the partitions without waiting for the session time-out. */
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
