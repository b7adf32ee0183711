import { setTimeout as sleep } from 'node:timers/promises';
import { backOffMs, endLog } from '@app/runtime';
import { LogEpochs } from '@app/event-store';
import { fromCloudEvent, type DeliveredEvent } from './cloud-event';
import { describeError } from './describe-error';
import { EventTransport, stalledMs, type EventTransportOptions } from './event-transport';
import type { GroupMember, KafkaDriver } from './kafka-driver';
import { KafkaAway } from './kafka-errors';
import { KafkaOffsets } from './kafka-offsets';
import { messageToPark, parkOnceDatabaseAnswers } from './kafka-parking';
import { KafkaPartitions, type KafkaDelivery } from './kafka-partitions';
import { KeptOffsets } from './kept-offsets';
import { aborted, pause } from './log-reader';
import { CannotBeHandled, type OrderedDispatch } from './ordered-dispatch';

export interface KafkaTransportOptions extends EventTransportOptions {
  readonly client: Pick<KafkaDriver, 'admin' | 'member'>;
  readonly topic: string;
  /** The consumer group's id on the brokers. */
  readonly groupId: string;
  /** Streams of one partition that are handled at once; 4 when absent. */
  readonly concurrency?: number;
  /** Shortest time between two commits, in milliseconds; 200 when absent. */
  readonly commitMs?: number;
  /** Milliseconds between two requests for the ends of the partitions; 2,000 when absent. */
  readonly endsMs?: number;
}

export type KafkaTransportStatus = 'connecting' | 'joined' | 'closed' | 'failed';

/**
 * The number of messages of a partition that are held before it is paused. A batch that has begun is taken completely.
 */
const backlog = 500;
/** Milliseconds for which a process that ends waits for the brokers to let it leave the group. */
const leaveMs = 3_000;
/** Milliseconds after which a session counts as successful, so that the next failure is counted from one again. */
const provenMs = 10_000;
const fatal = () => void endLog().then(() => process.exit(1));

/**
 * Nest transport that delivers the events of a topic to `@EventPattern` handlers, in the order of each stream, at least
 * once. The processes of a group share its partitions. An offset is committed when everything before it is handled or
 * parked.
 *
 * Reading, handling and committing run concurrently. A handler that is slow or is retried delays only the stream of its
 * event, until the partition has so many waiting messages that it is paused.
 */
export class KafkaTransport extends EventTransport<KafkaTransportStatus> {
  override readonly transportId = Symbol('kafka');
  private readonly closing = new AbortController();
  /** A single listener for all sessions, since each listener would stay on the signal. */
  private readonly closeAsked = aborted(this.closing.signal);
  private readonly partitions: KafkaPartitions;
  private readonly offsets: KafkaOffsets;
  private readonly kept: KeptOffsets;
  private running: Promise<void> | undefined;
  private member: GroupMember | undefined;
  private committing: Promise<void> | undefined;
  private asking: Promise<void> | undefined;
  private state: KafkaTransportStatus = 'connecting';
  /**
   * When this process last had its place in the group, or could not be expected to have it; milliseconds since the
   * epoch.
   */
  private wellAt = Date.now();
  /** Ends the current session with an error. */
  private crash: (error: Error) => void = () => undefined;

  constructor(private readonly options: KafkaTransportOptions) {
    super(options);
    const { topic, client, groupId } = options;
    this.offsets = new KafkaOffsets(client, topic, groupId, this.logger);
    this.kept = new KeptOffsets(options.pool, groupId, topic);
    this.partitions = new KafkaPartitions({
      topic,
      group: this.group,
      logger: this.logger,
      wants: (type) => this.wants(type),
      dispatchFrom: (after) => this.dispatchFrom(after),
      broken: (error) => this.crash(error),
    });
  }

  unwrap<T>(): T {
    return this.options.client as T;
  }

  /**
   * Checks liveness by progress, whatever the state of the connection.
   *
   * @throws {Error} when, for `afterMs`, this process was behind in a partition and made no progress, or had no place
   * in its group, although the brokers and the database answered.
   */
  override assertProgress(afterMs = stalledMs): void {
    this.noteProgress();
    const oldest = Date.now() - afterMs;
    if (this.wellAt < oldest)
      throw new Error(`${this.group} has had no place in its group since ${new Date(this.wellAt).toISOString()}`);
    this.partitions.assertProgress(oldest);
  }

  /**
   * Checks readiness.
   *
   * @throws {Error} when this process has no place in its group, such as while the brokers are away.
   */
  assertJoined(): void {
    if (this.state !== 'joined') throw new Error(`${this.group} is ${this.state}: it has no place in its group`);
  }

  protected start(): void {
    this.running = this.run();
  }

  protected async stop(): Promise<void> {
    this.closing.abort();
    await this.running;
  }

  protected behind(): number | undefined {
    this.noteProgress();
    return this.state === 'joined' ? this.partitions.behind() : undefined;
  }

  private async run(): Promise<void> {
    const { signal } = this.closing;
    for (let failures = 1; !signal.aborted; failures++) {
      this.become('connecting');
      const since = Date.now();
      try {
        if (await this.topicIsThere()) await this.session();
      } catch (error) {
        if (!(error instanceof KafkaAway)) {
          this.become('failed');
          this.logger.fatal(
            `The consumer group ${this.group} cannot go on, and ends its process: ${describeError(error)}`,
          );
          return (this.options.onFatal ?? fatal)(error);
        }
        this.logger.warn(error.message);
        await this.offsets.close();
      }
      if (Date.now() - since > provenMs) failures = 1;
      await pause(backOffMs({ baseMs: 200, capMs: 3_000 }, failures), signal);
    }
    this.become('closed');
  }

  /** Waits for the topic to exist; false when the transport closes first. */
  private async topicIsThere(): Promise<boolean> {
    const { topic } = this.options;
    const { signal } = this.closing;
    for (let tries = 0; !signal.aborted; tries++) {
      const isThere = await Promise.race([this.offsets.hasTopic(), this.closeAsked]);
      if (isThere !== false) return isThere === true;
      if (tries === 0) this.logger.log(`Waits for the topic ${topic}, which event-relay creates`);
      this.wellAt = Date.now();
      await pause(500, signal);
    }
    return false;
  }

  /** Runs from joining the group until the client crashes or the transport closes. */
  private async session(): Promise<void> {
    const { client, topic, groupId, commitMs = 200, endsMs = 2_000 } = this.options;
    const crashed = new Promise<never>((_, reject) => (this.crash = reject));
    crashed.catch(() => undefined);
    const timers = [setInterval(() => void this.commit(), commitMs), setInterval(() => this.askForOffsets(), endsMs)];
    const joining = client.member(groupId, topic, {
      assigned: (partitions) => {
        this.partitions.assign(partitions);
        this.become('joined');
      },
      records: (partition, messages, end) => {
        // While this process closes, later records are left to the next member, since they come after the last commit.
        if (!this.closing.signal.aborted) this.partitions.take(partition, messages, end);
      },
      rebalancing: () => void this.commit(),
      crashed: this.crash,
    });
    try {
      // Closing waits neither for the join nor for a crash.
      this.member = (await Promise.race([joining, crashed, this.closeAsked])) ?? undefined;
      this.partitions.member = this.member;
      await Promise.race([this.closeAsked, crashed]);
    } finally {
      await this.leaveGroup(joining, timers);
    }
  }

  private async leaveGroup(joining: Promise<GroupMember>, timers: readonly NodeJS.Timeout[]): Promise<void> {
    const { signal } = this.closing;
    if (!signal.aborted) this.become('connecting');
    // The process stays a member until its handlers have ended, so that it can commit their offsets.
    const late = this.closeAsked.then(() => sleep(this.closeWithinMs, undefined, { ref: false }));
    await Promise.race([this.partitions.stopHandlers(), late]);
    await this.commit();
    timers.forEach(clearInterval);
    this.member = undefined;
    this.partitions.end();
    // A member that joins late must leave too; otherwise its partitions would have no reader.
    const left = Promise.allSettled([joining.then((member) => member.close()), this.offsets.close()]);
    await (signal.aborted ? Promise.race([left, sleep(leaveMs, undefined, { ref: false })]) : left);
  }

  /**
   * Leaves out an event of a history that a restore has ended.
   *
   * @throws {CannotBeHandled} when the event is of an epoch that this database does not know.
   */
  private async handleUnlessVoid(event: DeliveredEvent): Promise<void> {
    const epochs = await LogEpochs.of(this.pool).epochs();
    if (epochs.isAhead(event))
      throw new CannotBeHandled(
        'The event is of an epoch that this log does not know, so the log was restored since: run `sendmux restore`.',
      );
    if (!epochs.isVoid(event)) await this.handle(event);
  }

  private commit(): Promise<void> {
    return (this.committing ??= this.commitMoved().finally(() => (this.committing = undefined)));
  }

  /**
   * Commits the partitions that have moved. An offset that cannot be committed now is committed with the next ones, or
   * is read again by the next member with the partition.
   */
  private async commitMoved(): Promise<void> {
    this.noteProgress();
    const offsets = this.partitions.uncommitted();
    if (!this.member || offsets.size === 0) return;
    try {
      await this.member.commit(offsets);
      this.partitions.committed(offsets);
    } catch (error) {
      this.logger.debug(`Offsets are not committed: ${(error as Error).message}`);
      return;
    }
    await this.kept
      .note(offsets)
      .catch((error: Error) => this.logger.debug(`Offsets are not kept beside the effects: ${error.message}`));
  }

  private askForOffsets(): void {
    this.asking ??= this.offsets
      .ask(this.partitions.someUnread)
      .then((known) => {
        if (known) this.partitions.noteOffsets(known.ends, known.committed);
      })
      .finally(() => (this.asking = undefined));
  }

  private noteProgress(): void {
    const now = Date.now();
    const excused = this.offsets.brokersRefuse || this.isDatabaseAway || this.closing.signal.aborted;
    if (excused || this.state === 'joined') this.wellAt = now;
    this.partitions.noteProgress(now, excused);
  }

  private become(state: KafkaTransportStatus): void {
    this.state = state;
    this._status$.next(state);
  }

  private dispatchFrom(after: number): OrderedDispatch<KafkaDelivery> {
    const { topic, concurrency = 4 } = this.options;
    // Keeps the `crash` of the current session, so that a dispatch of an earlier session cannot end a later one.
    const { crash } = this;
    return this.dispatch<KafkaDelivery>({
      after,
      backlog,
      concurrency,
      handle: async ({ message }) => this.handleUnlessVoid(fromCloudEvent(message)),
      parked: ({ message }) => messageToPark(topic, message),
      park: (what, error, tries) =>
        parkOnceDatabaseAnswers(() => this.parked.park(this.group, what, error, tries), {
          backOff: this.backOff,
          signal: this.closing.signal,
          away: () => this.noteDatabaseAway(),
        }),
      broken: (error) => crash(error as Error),
    });
  }
}
