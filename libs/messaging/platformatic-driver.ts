import { isIP } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import {
  Admin,
  compatibilityPartitioner,
  ConfigResourceTypes,
  ConfigSources,
  ConnectionPool,
  Consumer,
  IS_CONTROL,
  ListOffsetTimestamps,
  metadataV12,
  protocolErrors,
  Producer,
  type BaseOptions,
  type ClusterMetadata,
  type FetchOptions,
  type KafkaRecord,
  type RecordsBatch,
  type SASLOptions,
} from '@platformatic/kafka';
import type { CloudEvent, ReceivedMessage } from './cloud-event';
import type {
  GroupMember,
  KafkaAdmin,
  KafkaDriver,
  Publisher,
  Reading,
  TopicSetting,
  TopicSettings,
  TopicState,
} from './kafka-driver';
import { causesOf, kafkaError, KafkaAway, notYetKnown } from './kafka-errors';
import type { KafkaSettings } from './kafka-settings';
import { assertAccepted } from './sasl-oauthbearer';

/*
 * The one file that depends on @platformatic/kafka. Records are read by its fetch requests and not by its streams,
 * which can only be paused as a whole (docs/decisions/0058).
 */

type FetchTopic = FetchOptions<Buffer, Buffer, Buffer, Buffer>['topics'][number];
type Fetched = Awaited<ReturnType<Consumer['fetch']>>;

/** The errors of the library itself that retrying does not repair. */
const lasting: ReadonlySet<string> = new Set([
  'PLT_KFK_UNSUPPORTED',
  'PLT_KFK_UNSUPPORTED_API',
  'PLT_KFK_UNSUPPORTED_COMPRESSION',
]);

function codeOf(error: Error & { readonly apiId?: string; readonly code?: string }): string | undefined {
  return lasting.has(error.code ?? '') ? 'lasting' : error.apiId;
}

const isOf = (error: unknown, code: string): boolean => [...causesOf(error)].some((each) => codeOf(each) === code);

async function withKafkaErrors<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    throw kafkaError(error, codeOf);
  }
}

/** How often a request is made again before its failure is the caller's. */
const retries = 5;
const retryDelay = (attempt: number) => Math.min(100 * 2 ** attempt, 1_000);

/** Speaks to Kafka through @platformatic/kafka. */
export class PlatformaticDriver implements KafkaDriver {
  private readonly options: BaseOptions;
  private readonly compression: NonNullable<KafkaSettings['compression']>;

  constructor(settings: KafkaSettings, clientId: string) {
    const { brokers, tls, sasl, compression = 'none' } = settings;
    this.compression = compression;
    const hosts = brokers.map((broker) => broker.slice(0, broker.lastIndexOf(':')).replace(/^\[|\]$/g, ''));
    this.options = {
      clientId,
      bootstrapBrokers: [...brokers],
      connectTimeout: 3_000,
      // A join of a group is answered when all members have joined, which takes as long as a rebalance may.
      requestTimeout: rebalanceTimeout + 5_000,
      timeout: 10_000,
      // TLS has no names that are addresses (RFC 6066 section 3).
      ...(tls && { tls: { ...tls }, tlsServerName: hosts.every((host) => !isIP(host)) }),
      ...(sasl && { sasl: saslOf(sasl) }),
      retries,
      retryDelay: (_client, _operation, attempt) => retryDelay(attempt),
      metadataMaxAge: 30_000,
    };
  }

  admin(): Promise<KafkaAdmin> {
    return this.connected(new Admin(this.options), (admin) => new PlatformaticAdmin(admin));
  }

  publisher(topic: string, partitions: number): Promise<Publisher> {
    // With fewer than two retries the library would retry for ever. After these the caller makes a new producer and
    // starts again at its checkpoint.
    const producer = new Producer({ ...this.options, compression: this.compression, idempotent: true, retries: 2 });
    return this.connected(producer, () => new PlatformaticPublisher(producer, topic, partitions));
  }

  async member(group: string, topic: string, reading: Reading): Promise<GroupMember> {
    const consumer = new Consumer({
      ...this.options,
      groupId: group,
      // A process that vanishes keeps its partitions for this long.
      sessionTimeout: 10_000,
      heartbeatInterval: 1_000,
      rebalanceTimeout,
      // The name that kafkajs uses, so that both may be members of a group while an installation changes.
      protocols: [{ name: 'RoundRobinAssigner', version: 0 }],
      // The library would join the group again for a commit that comes too late, and commit the offsets of partitions
      // that others have by then. The member retries by itself.
      retries: 0,
    });
    const { clientId } = this.options;
    const fetches = new ConnectionPool(clientId, this.options);
    const member = new PlatformaticMember(consumer, fetches, topic, reading);
    try {
      await withKafkaErrors(() => member.join());
      return member;
    } catch (error) {
      await member.close().catch(() => undefined);
      throw error;
    }
  }

  /** Makes sure that the brokers answer. */
  private async connected<Client extends Admin | Producer, T>(client: Client, made: (client: Client) => T): Promise<T> {
    outliveErrors(client.connections);
    try {
      await withKafkaErrors(() => client.metadata({ topics: [] }));
      return made(client);
    } catch (error) {
      await client.close().catch(() => undefined);
      throw error;
    }
  }
}

/** Milliseconds within which the members of a group have to join again. */
const rebalanceTimeout = 10_000;

function saslOf(sasl: NonNullable<KafkaSettings['sasl']>): SASLOptions {
  if (sasl.mechanism !== 'oauthbearer')
    return {
      mechanism: sasl.mechanism.toUpperCase() as SASLOptions['mechanism'],
      username: () => sasl.username,
      password: () => sasl.password,
    };
  return {
    mechanism: 'OAUTHBEARER',
    token: () => sasl.token(),
    authBytesValidator: (answer, done) => {
      try {
        assertAccepted(answer);
        done(null, answer);
      } catch (error) {
        done(error as Error);
      }
    },
  };
}

/**
 * Has no error of a connection end the process: the library listens to the first one of each, and the requests on the
 * connection fail as well.
 */
function outliveErrors(pool: ConnectionPool): void {
  pool.on('connecting', ({ connection }) => connection.on('error', () => undefined));
}

/** The operations by their codes, which are bits in answers (`AclOperation` of Kafka). */
const operations: ReadonlyMap<number, string> = new Map([
  [3, 'READ'],
  [4, 'WRITE'],
  [8, 'DESCRIBE'],
  [10, 'DESCRIBE_CONFIGS'],
  [11, 'ALTER_CONFIGS'],
]);

class PlatformaticAdmin implements KafkaAdmin {
  constructor(private readonly admin: Admin) {}

  ensureTopic({ topic, partitions, replication }: TopicSettings): Promise<number> {
    return withKafkaErrors(async () => {
      if (!(await this.admin.listTopics()).includes(topic))
        await this.admin
          .createTopics({
            topics: [{ topic, partitions, replicas: replication }],
            configs: [{ name: 'retention.ms', value: '-1' }],
          })
          .catch((error: unknown) => {
            if (!isOf(error, 'TOPIC_ALREADY_EXISTS')) throw error;
          });
      return this.partitionsOf(topic);
    });
  }

  /** Waits for a topic that was just created: a broker may not know it yet, or no leader of its partitions. */
  private async partitionsOf(topic: string): Promise<number> {
    for (let tries = 1; ; tries++) {
      const isLast = tries === 40;
      try {
        const { partitions } = await this.topic(topic);
        if (isLast || partitions.every(({ leader }) => leader >= 0)) return partitions.length;
      } catch (error) {
        const isUnknown = [...causesOf(error)].some(
          (each) => notYetKnown.has(codeOf(each) ?? '') || each.message === `Unknown topic ${topic}.`,
        );
        if (isLast || !isUnknown) throw error;
      }
      await delay(250);
    }
  }

  private async topic(topic: string) {
    const { topics } = await this.admin.metadata({ topics: [topic], forceUpdate: true });
    return topics.get(topic)!;
  }

  topicSettings(topic: string): Promise<Map<string, TopicSetting>> {
    return withKafkaErrors(async () => {
      const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic };
      const [described] = await this.admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
      return new Map(
        described!.configs.map(({ name, value, configSource }) => [
          name,
          { value: value ?? '', isOwn: configSource === ConfigSources.DYNAMIC_TOPIC_CONFIG },
        ]),
      );
    });
  }

  setTopicSettings(topic: string, values: ReadonlyMap<string, string>): Promise<void> {
    const configs = [...values].map(([name, value]) => ({ name, value }));
    const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic, configs };
    return withKafkaErrors(() => this.admin.alterConfigs({ validateOnly: false, resources: [resource] }));
  }

  hasTopic(topic: string): Promise<boolean> {
    return withKafkaErrors(async () => (await this.admin.listTopics()).includes(topic));
  }

  topicState(topic: string): Promise<TopicState> {
    return withKafkaErrors(async () => {
      const { brokers } = await this.admin.metadata({ topics: [] });
      const connection = await this.admin.connections.get([...brokers.values()][0]!);
      // The library itself never asks what may be done.
      const { topics } = await metadataV12.api.async(connection, [topic], false, true);
      const { topicAuthorizedOperations: bits, partitions } = topics[0]!;
      return {
        rights: new Set([...operations].flatMap(([code, name]) => ((bits >>> code) & 1 ? [name] : []))),
        replicas: Math.min(...partitions.map(({ replicaNodes }) => replicaNodes.length)),
        inSync: Math.min(...partitions.map(({ isrNodes }) => isrNodes.length)),
        brokers: brokers.size,
      };
    });
  }

  ends(topic: string): Promise<Map<number, number>> {
    return withKafkaErrors(async () => {
      const { partitions } = await this.topic(topic);
      const wanted = [...partitions.keys()].map((partitionIndex) => ({
        partitionIndex,
        timestamp: ListOffsetTimestamps.LATEST,
      }));
      const [listed] = await this.admin.listOffsets({ topics: [{ name: topic, partitions: wanted }] });
      return new Map(listed!.partitions.map(({ partitionIndex, offset }) => [partitionIndex, Number(offset)]));
    });
  }

  committed(group: string, topic: string): Promise<Map<number, number>> {
    return withKafkaErrors(async () => {
      const [offsets] = await this.admin.listConsumerGroupOffsets({ groups: [group] });
      const known = offsets!.topics
        .filter(({ name }) => name === topic)
        .flatMap(({ partitions }) => partitions)
        .filter(({ committedOffset }) => committedOffset >= 0n);
      return new Map(known.map(({ partitionIndex, committedOffset }) => [partitionIndex, Number(committedOffset)]));
    });
  }

  setCommitted(group: string, topic: string, offsets: ReadonlyMap<number, number>): Promise<void> {
    const partitionOffsets = [...offsets].map(([partition, offset]) => ({ partition, offset: BigInt(offset) }));
    return withKafkaErrors(() =>
      this.admin.alterConsumerGroupOffsets({ groupId: group, topics: [{ name: topic, partitionOffsets }] }),
    );
  }

  close(): Promise<void> {
    return this.admin.close();
  }
}

/** Chooses the partition of a key as the Java client's default partitioner does (murmur2). */
export const partitioner =
  (partitions: number) =>
  (key: string): number =>
    compatibilityPartitioner(undefined as never, Buffer.from(key)) % partitions;

class PlatformaticPublisher implements Publisher {
  private readonly partitionOf: (key: string) => number;

  constructor(
    private readonly producer: Producer,
    private readonly topic: string,
    partitions: number,
  ) {
    this.partitionOf = partitioner(partitions);
  }

  async send(events: readonly CloudEvent[], timestamps = true): Promise<void> {
    const { topic } = this;
    const expected = new Set<number>();
    const now = Date.now();
    const messages = events.map(({ key, value, headers, timestamp }) => {
      const partition = this.partitionOf(key);
      expected.add(partition);
      return {
        topic,
        partition,
        key: Buffer.from(key),
        value: Buffer.from(value),
        headers: new Map(Object.entries(headers).map(([name, text]) => [Buffer.from(name), Buffer.from(text)])),
        timestamp: timestamps ? BigInt(Math.min(timestamp, now)) : -1n,
      };
    });
    await withKafkaErrors(async () => {
      const { offsets = [] } = await this.producer.send({ messages });
      for (const { partition } of offsets) expected.delete(partition);
      if (expected.size > 0) throw new Error(`no acknowledgement of partition ${[...expected].join(', ')}`);
    });
  }

  close(): Promise<void> {
    return this.producer.close(true);
  }
}

/** Milliseconds for which a broker may hold a fetch while it has no records. */
const longPollMs = 200;
/** The most octets of one answer to a fetch, and of one partition in it. */
const maxBytes = 10_485_760;
const partitionMaxBytes = 1_048_576;

class PlatformaticMember implements GroupMember {
  private readonly logger = new Logger('kafka');
  /** Raised whenever the assignment changes or ends: what was asked for an older one is dropped. */
  private generation = 0;
  /** The next offset to read of each partition that this member has, once it is known. */
  private next = new Map<number, number>();
  private readonly paused = new Set<number>();
  /** The brokers that hold a fetch. */
  private readonly fetching = new Set<number>();
  /** Consecutive failures to read. */
  private failures = 0;
  private planned = false;
  private state: 'member' | 'crashed' | 'closed' = 'member';

  constructor(
    private readonly consumer: Consumer,
    private readonly fetches: ConnectionPool,
    private readonly topic: string,
    private readonly reading: Reading,
  ) {}

  async join(): Promise<void> {
    const { consumer, fetches, topic } = this;
    outliveErrors(consumer.connections);
    outliveErrors(fetches);
    consumer.topics.track(topic);
    consumer.on('consumer:group:join', ({ assignments = [] }) => {
      const own = assignments.filter((each) => each.topic === topic).flatMap(({ partitions }) => partitions);
      void this.read(own);
    });
    consumer.on('consumer:group:rebalance', () => this.reading.rebalancing());
    consumer.on('consumer:heartbeat:error', ({ error }) => this.logger.debug(`No heartbeat: ${error.message}`));
    // The library gives up when it could not join again by itself.
    consumer.on('error', () => void this.joinGroup().catch((error: unknown) => this.crash(error)));
    await this.joinGroup();
  }

  commit(offsets: ReadonlyMap<number, number>): Promise<void> {
    const { topic } = this;
    return withKafkaErrors(() =>
      this.consumer.commit({
        offsets: [...offsets].map(([partition, offset]) => ({
          topic,
          partition,
          offset: BigInt(offset),
          leaderEpoch: -1,
        })),
      }),
    );
  }

  pause(partition: number): void {
    this.assertMember();
    this.paused.add(partition);
  }

  resume(partition: number): void {
    this.assertMember();
    if (this.paused.delete(partition)) this.plan();
  }

  async close(): Promise<void> {
    this.state = 'closed';
    this.generation += 1;
    try {
      await Promise.all([this.fetches.close(), this.consumer.close(true)]);
    } finally {
      // A consumer that could not leave its group stays open otherwise.
      await this.consumer.connections.close();
    }
  }

  private assertMember(): void {
    if (this.state !== 'member') throw new KafkaAway(`The member of the group has ${this.state}`);
  }

  private crash(error: unknown): void {
    if (this.state !== 'member') return;
    this.state = 'crashed';
    this.generation += 1;
    this.reading.crashed(kafkaError(error, codeOf));
  }

  private async joinGroup(): Promise<void> {
    await this.retried(() => this.consumer.joinGroup({}));
  }

  /** Tries again after failures that may pass, as often and as long as other requests of this driver do. */
  private async retried<T>(request: () => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++)
      try {
        return await request();
      } catch (error) {
        if (this.state !== 'member' || attempt === retries || !(kafkaError(error, codeOf) instanceof KafkaAway))
          throw error;
        await delay(retryDelay(attempt));
      }
  }

  /** Reads these partitions, and no others, from the offsets that the group has committed. */
  private async read(partitions: readonly number[]): Promise<void> {
    const generation = (this.generation += 1);
    this.next = new Map();
    for (const partition of this.paused) if (!partitions.includes(partition)) this.paused.delete(partition);
    this.reading.assigned(partitions);
    if (partitions.length === 0) return;
    try {
      const next = await this.retried(() => this.committed(partitions));
      if (generation !== this.generation) return;
      this.next = next;
      this.plan();
    } catch (error) {
      if (generation === this.generation) this.crash(error);
    }
  }

  private async committed(partitions: readonly number[]): Promise<Map<number, number>> {
    const { consumer, topic } = this;
    const known = (await consumer.listCommittedOffsets({ topics: [{ topic, partitions: [...partitions] }] })).get(
      topic,
    );
    const offsets = new Map(partitions.map((partition) => [partition, Number(known?.[partition] ?? -1n)]));
    const missing = partitions.filter((partition) => offsets.get(partition)! < 0);
    return new Map([...offsets, ...(await this.beginnings(missing))]);
  }

  private async beginnings(partitions: readonly number[]): Promise<Map<number, number>> {
    const { consumer, topic } = this;
    if (partitions.length === 0) return new Map();
    const found = await consumer.listOffsets({
      topics: [topic],
      partitions: { [topic]: [...partitions] },
      timestamp: ListOffsetTimestamps.EARLIEST,
    });
    return new Map(partitions.map((partition) => [partition, Number(found.get(topic)![partition])]));
  }

  /** Sends a fetch to each broker that leads a partition to read and holds none, soon. */
  private plan(): void {
    if (this.planned || this.state !== 'member') return;
    this.planned = true;
    setImmediate(() => {
      this.planned = false;
      this.fetchAll().catch(async (error: unknown) => {
        this.failed(error);
        await delay(retryDelay(this.failures));
        this.plan();
      });
    });
  }

  private async fetchAll(): Promise<void> {
    const { generation, topic } = this;
    const metadata = await this.consumer.metadata({ topics: [topic] });
    if (generation !== this.generation) return;
    const { leaderless, wanted } = this.wantedOf(metadata);
    for (const [node, request] of wanted) if (!this.fetching.has(node)) void this.fetch(node, request);
    if (leaderless) throw new KafkaAway(`A partition of ${topic} has no leader`);
  }

  private wantedOf(metadata: ClusterMetadata) {
    const { id: topicId, partitions } = metadata.topics.get(this.topic)!;
    const wanted = new Map<number, FetchTopic>();
    let leaderless = false;
    for (const [partition, offset] of this.next) {
      if (this.paused.has(partition)) continue;
      const leader = partitions[partition]?.leader ?? -1;
      if (!metadata.brokers.has(leader)) leaderless = true;
      else {
        if (!wanted.has(leader)) wanted.set(leader, { topicId, partitions: [] });
        wanted.get(leader)!.partitions.push({
          partition,
          fetchOffset: BigInt(offset),
          partitionMaxBytes,
          currentLeaderEpoch: -1,
          lastFetchedEpoch: -1,
        });
      }
    }
    return { leaderless, wanted };
  }

  private async fetch(node: number, request: FetchTopic): Promise<void> {
    const { generation, consumer, fetches: connectionPool } = this;
    this.fetching.add(node);
    try {
      const options = { node, topics: [request], connectionPool, maxBytes, minBytes: 1, maxWaitTime: longPollMs };
      const { responses } = await consumer.fetch(options);
      this.failures = 0;
      if (generation === this.generation)
        for (const { partitions } of responses)
          for (const { partitionIndex, records, highWatermark } of partitions)
            this.take(partitionIndex, records ?? [], Number(highWatermark));
      this.fetching.delete(node);
      this.plan();
    } catch (error) {
      if (generation === this.generation) await this.startAgain(error).catch((fault: unknown) => this.failed(fault));
      // Until then no other broker's answer has this one asked again.
      await delay(retryDelay(this.failures));
      this.fetching.delete(node);
      this.plan();
    }
  }

  /** Passes on what a fetch has brought. A partition that was paused meanwhile is fetched again later. */
  private take(partition: number, batches: readonly RecordsBatch[], end: number): void {
    const from = this.next.get(partition);
    const last = batches.at(-1);
    if (from === undefined || !last || this.paused.has(partition)) return;
    const messages: ReceivedMessage[] = [];
    for (const { attributes, firstOffset, records } of batches) {
      if (attributes & IS_CONTROL) continue;
      const first = Number(firstOffset);
      for (const { offsetDelta, key, value, headers } of records) {
        const offset = first + offsetDelta;
        if (offset >= from) messages.push({ partition, offset, key, value, headers: texts(headers) });
      }
    }
    this.next.set(partition, Number(last.firstOffset) + last.lastOffsetDelta + 1);
    if (messages.length > 0) this.reading.records(partition, messages, end);
  }

  /**
   * Reads partitions from their beginning whose topic was created again, or has lost its last records.
   *
   * @throws {unknown} the given error when it says nothing of that.
   */
  private async startAgain(error: unknown): Promise<void> {
    const { generation } = this;
    const lost = outOfRange(error);
    if (lost.length === 0) throw error;
    const beginnings = await this.beginnings(lost);
    if (generation === this.generation) for (const [partition, offset] of beginnings) this.next.set(partition, offset);
  }

  /** Notes a failure that may pass; the member crashes when there are too many in a row. */
  private failed(error: unknown): void {
    this.consumer.clearMetadata();
    this.failures += 1;
    if (this.failures > retries || !(kafkaError(error, codeOf) instanceof KafkaAway)) this.crash(error);
  }
}

/** Gives the partitions whose offset a fetch has asked for in vain, by its error. */
function outOfRange(error: unknown): number[] {
  if (!isOf(error, 'OFFSET_OUT_OF_RANGE')) return [];
  const responses = [...causesOf(error)].flatMap((each) => (each as { response?: Fetched }).response ?? []);
  return responses
    .flatMap(({ responses }) => responses.flatMap(({ partitions }) => partitions))
    .filter(({ errorCode }) => errorCode === protocolErrors.OFFSET_OUT_OF_RANGE!.code)
    .map(({ partitionIndex }) => partitionIndex);
}

/** Gives headers as texts; of several with the same name the last one. */
function texts(headers: KafkaRecord['headers']): Record<string, string> {
  return Object.fromEntries(
    headers.map(([name, value]) => [name?.toString('utf8') ?? '', value?.toString('utf8') ?? '']),
  );
}
