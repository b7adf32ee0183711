import type { CloudEvent, ReceivedMessage } from './cloud-event';

/**
 * What `libs/messaging` needs of a Kafka client library. A driver calls one library so that nothing is lost, and gives
 * the errors of `kafka-errors.ts` (docs/decisions/0012).
 */
export interface KafkaDriver {
  /**
   * Connects a client for topics and offsets.
   *
   * @throws {KafkaAway}
   */
  admin(): Promise<KafkaAdmin>;
  /**
   * Connects a producer for one topic.
   *
   * @throws {KafkaAway}
   */
  publisher(topic: string, partitions: number): Promise<Publisher>;
  /**
   * Makes a member of a group, which joins, reads and sends heartbeats until it is closed or crashes. A partition is
   * read from the offset that the group has committed, or from its beginning.
   *
   * @throws {KafkaAway}
   */
  member(group: string, topic: string, reading: Reading): Promise<GroupMember>;
}

export interface TopicSettings {
  readonly topic: string;
  readonly partitions: number;
  /** Replicas of the topic's partitions; -1 is the brokers' default. */
  readonly replication: number;
}

export interface TopicSetting {
  readonly value: string;
  /** Whether the topic itself has it, and not the brokers for all topics. */
  readonly isOwn: boolean;
}

/** What the brokers say of a topic, and of what the user may do there. */
export interface TopicState {
  /**
   * The operations that the user may do, by their names in the protocol: `READ`, `WRITE`, `DESCRIBE`,
   * `DESCRIBE_CONFIGS` and `ALTER_CONFIGS`; all without ACLs.
   */
  readonly rights: ReadonlySet<string>;
  /** The least number of replicas of a partition, and of those that are in sync. */
  readonly replicas: number;
  readonly inSync: number;
  readonly brokers: number;
}

/** Answers about topics and offsets. All methods but `close` throw `KafkaAway`. */
export interface KafkaAdmin {
  /**
   * Creates the topic when it is absent, with unlimited retention, since a subscriber may start years later.
   *
   * @returns the number of partitions; that of the existing topic when there is one.
   */
  ensureTopic(settings: TopicSettings): Promise<number>;
  /** Gives the settings of a topic by name, those that it has from the brokers included. */
  topicSettings(topic: string): Promise<Map<string, TopicSetting>>;
  /** Replaces all settings that the topic has of its own. */
  setTopicSettings(topic: string, values: ReadonlyMap<string, string>): Promise<void>;
  /** Tells whether the topic exists. */
  hasTopic(topic: string): Promise<boolean>;
  /** Gives the state of a topic, where the client library can ask for it. */
  topicState?(topic: string): Promise<TopicState>;
  /** Gives the offset after the last record of each partition. */
  ends(topic: string): Promise<Map<number, number>>;
  /** Gives the next offset to read of each partition for which the group has committed one. */
  committed(group: string, topic: string): Promise<Map<number, number>>;
  /**
   * Sets the next offset to read of partitions, for a group that has no members.
   *
   * @throws {KafkaAway} also when the group has members.
   */
  setCommitted(group: string, topic: string, offsets: ReadonlyMap<number, number>): Promise<void>;
  close(): Promise<void>;
}

/** Sends records to one topic with an idempotent producer, acknowledged by all in-sync replicas (acks=all). */
export interface Publisher {
  /**
   * Resolves when all events are acknowledged. The caller sends one batch at a time. A record has the time of its
   * event, or the present time where the event is from a clock that is ahead: brokers refuse records from the future.
   *
   * @param timestamps false for records without a timestamp, which brokers accept whatever their clock says.
   * @throws {KafkaAway} when the acknowledgement is not certain; some of the events may have been written.
   * @throws {RecordRefused} when the brokers refuse one of the events for good.
   */
  send(events: readonly CloudEvent[], timestamps?: boolean): Promise<void>;
  close(): Promise<void>;
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

export interface GroupMember {
  /**
   * @param offsets the next offset to read, by partition.
   * @throws {KafkaAway} also when the group has given the partitions to other members.
   */
  commit(offsets: ReadonlyMap<number, number>): Promise<void>;
  /** @throws {KafkaAway} when the member has crashed or left. */
  pause(partition: number): void;
  /** @throws {KafkaAway} when the member has crashed or left. */
  resume(partition: number): void;
  /** Leaves the group, so that the other members get the partitions without waiting for the session time-out. */
  close(): Promise<void>;
}
