import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { Logger } from '@nestjs/common';
import {
  CompressionCodecs,
  CompressionTypes,
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
  type Mechanism,
  type Producer,
  type SASLOptions,
} from 'kafkajs';
import type { CloudEvent } from './cloud-event';
import type {
  GroupMember,
  KafkaAdmin,
  KafkaDriver,
  Publisher,
  Reading,
  TopicSetting,
  TopicSettings,
} from './kafka-driver';
import { kafkaError, notYetKnown } from './kafka-errors';
import type { KafkaSettings } from './kafka-settings';
import { assertAccepted, bearerMessage } from './sasl-oauthbearer';

/*
 * The one file that depends on kafkajs. It calls version 2.2.4 in the way that loses nothing: one send at a time, which
 * counts only when its result names every partition (docs/decisions/0012).
 */

/** INVALID_RECORD, which kafkajs does not know. */
const invalidRecord = /Unknown error code 87\b/;

/** The errors of kafkajs itself that retrying does not repair. */
const lasting: ReadonlySet<string> = new Set([
  'KafkaJSNotImplemented',
  'KafkaJSSASLAuthenticationError',
  'KafkaJSUnsupportedMagicByteInMessageSet',
]);

function codeOf(error: Error & { readonly type?: string }): string | undefined {
  if (invalidRecord.test(error.message)) return 'INVALID_RECORD';
  return lasting.has(error.name) ? 'lasting' : error.type;
}

async function withKafkaErrors<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    throw kafkaError(error, codeOf);
  }
}

function saslOf(sasl: NonNullable<KafkaSettings['sasl']>): SASLOptions | Mechanism {
  // Read by kafkajs for each connection.
  if (sasl.mechanism !== 'oauthbearer') return sasl as SASLOptions;
  return {
    mechanism: sasl.mechanism,
    // That of kafkajs does not read the answer, and takes a refusal for an acceptance.
    authenticationProvider: ({ saslAuthenticate }) => ({
      authenticate: async () => {
        const message = bearerMessage(await sasl.token());
        await saslAuthenticate({
          request: { encode: () => withLength(message) },
          response: { decode: (answer) => answer.subarray(4), parse: assertAccepted },
        });
      },
    }),
  };
}

/** Puts the length before an octet string, as kafkajs wants it. */
function withLength(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}

const codecs: Readonly<Record<NonNullable<KafkaSettings['compression']>, CompressionTypes>> = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  // Refused with kafkajs at the start.
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

// Gives kafkajs the codec of Node, where it has it, also to read what another client has compressed.
if ('zstdCompress' in zlib) {
  const [compress, decompress] = [promisify(zlib.zstdCompress), promisify(zlib.zstdDecompress)];
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: ({ buffer }: { readonly buffer: Buffer }) => compress(buffer),
    decompress: (buffer: Buffer) => decompress(buffer),
  });
}

const initialRetryTime = 100;
const maxRetryTime = 1_000;

/** Speaks to Kafka through kafkajs. */
export class KafkajsDriver implements KafkaDriver {
  private readonly logger = new Logger('kafka');
  private readonly kafka: Kafka;
  private readonly compression: CompressionTypes;

  constructor(settings: KafkaSettings, clientId: string) {
    const config: KafkaConfig = {
      clientId,
      brokers: [...settings.brokers],
      ssl: settings.tls,
      ...(settings.sasl && { sasl: saslOf(settings.sasl) }),
      connectionTimeout: 3_000,
      requestTimeout: 10_000,
      // A token that lives a quarter of a minute has more than this left when it is shown.
      reauthenticationThreshold: 2_000,
      retry: { initialRetryTime, maxRetryTime, retries: 5, restartOnFailure: () => Promise.resolve(false) },
      logLevel: logLevel.INFO,
      logCreator: this.logs(),
    };
    this.kafka = new Kafka(config);
    this.compression = codecs[settings.compression ?? 'none'];
  }

  admin(): Promise<KafkaAdmin> {
    const admin = this.kafka.admin();
    return withKafkaErrors(async () => {
      await admin.connect();
      return new KafkajsAdmin(admin);
    });
  }

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
      return new KafkajsPublisher(producer, topic, partitions, this.compression);
    });
  }

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
    const member = new KafkajsMember(consumer, topic, reading);
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

class KafkajsAdmin implements KafkaAdmin {
  constructor(private readonly admin: Admin) {}

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

  setTopicSettings(topic: string, values: ReadonlyMap<string, string>): Promise<void> {
    const configEntries = [...values].map(([name, value]) => ({ name, value }));
    return withKafkaErrors(async () => {
      await this.admin.alterConfigs({
        validateOnly: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }],
      });
    });
  }

  hasTopic(topic: string): Promise<boolean> {
    return withKafkaErrors(async () => (await this.admin.listTopics()).includes(topic));
  }

  ends(topic: string): Promise<Map<number, number>> {
    return withKafkaErrors(async () => {
      const offsets = await this.admin.fetchTopicOffsets(topic);
      return new Map(offsets.map(({ partition, high }) => [partition, Number(high)]));
    });
  }

  committed(group: string, topic: string): Promise<Map<number, number>> {
    return withKafkaErrors(async () => {
      const [offsets] = await this.admin.fetchOffsets({ groupId: group, topics: [topic] });
      const known = offsets!.partitions.filter(({ offset }) => offset !== '-1');
      return new Map(known.map(({ partition, offset }) => [partition, Number(offset)]));
    });
  }

  setCommitted(group: string, topic: string, offsets: ReadonlyMap<number, number>): Promise<void> {
    return withKafkaErrors(() =>
      this.admin.setOffsets({
        groupId: group,
        topic,
        partitions: [...offsets].map(([partition, offset]) => ({ partition, offset: String(offset) })),
      }),
    );
  }

  close(): Promise<void> {
    return this.admin.disconnect();
  }
}

class KafkajsPublisher implements Publisher {
  private readonly partitionOf: (key: string) => number;

  constructor(
    private readonly producer: Producer,
    private readonly topic: string,
    partitions: number,
    private readonly compression: CompressionTypes,
  ) {
    this.partitionOf = partitioner(partitions);
  }

  async send(events: readonly CloudEvent[], timestamps = true): Promise<void> {
    const { topic, compression } = this;
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
      const results = await this.producer.send({ topic, compression, acks: -1, messages });
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

class KafkajsMember implements GroupMember {
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
      if (!this.closed) reading.crashed(kafkaError(payload.error, codeOf));
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

  commit(offsets: ReadonlyMap<number, number>): Promise<void> {
    const { topic } = this;
    return withKafkaErrors(() =>
      this.consumer.commitOffsets(
        [...offsets].map(([partition, offset]) => ({ topic, partition, offset: `${offset}` })),
      ),
    );
  }

  pause(partition: number): void {
    try {
      this.consumer.pause([{ topic: this.topic, partitions: [partition] }]);
    } catch (error) {
      throw kafkaError(error, codeOf);
    }
  }

  resume(partition: number): void {
    try {
      this.consumer.resume([{ topic: this.topic, partitions: [partition] }]);
    } catch (error) {
      throw kafkaError(error, codeOf);
    }
  }

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
