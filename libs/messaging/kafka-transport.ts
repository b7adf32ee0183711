import { setTimeout as sleep } from 'node:timers/promises';
import { backOffMs } from '@app/runtime';
import { eventTypeOf, fromCloudEvent, type ReceivedMessage } from './cloud-event';
import { isConnectionLoss } from './connection-loss';
import { describeError } from './describe-error';
import { EventTransport, stalledMs, type EventTransportOptions } from './event-transport';
import { KafkaAway, type GroupMember, type KafkaAdmin, type KafkaClient, type Reading } from './kafka-client';
import { aborted, pause } from './log-reader';
import type { OrderedDispatch } from './ordered-dispatch';
import { parkedEvent, ParkedMessages, parkedRaw, type ParkedMessage } from './parked-messages';

export interface KafkaTransportOptions extends EventTransportOptions {
  readonly client: Pick<KafkaClient, 'admin' | 'member'>;
  readonly topic: string;
  /** The consumer group's name on the brokers. */
  readonly groupId: string;
  /** Streams of one partition that are handled at once; 4 when absent. */
  readonly concurrency?: number;
  /** Shortest time between two commits; 200 when absent. */
  readonly commitMs?: number;
  /** How often the ends of the partitions are asked for; 2,000 when absent. */
  readonly endsMs?: number;
}

export type KafkaTransportStatus = 'connecting' | 'joined' | 'closed' | 'failed';

/** Messages of a partition that are held at most before it is paused. A batch that has begun is taken whole. */
const backlog = 500;
/** How long a process that ends waits for brokers to let it go, in milliseconds. */
const leaveMs = 3_000;
/** How long an answer of the brokers about offsets may take, in milliseconds. */
const answerMs = 10_000;
const fatal = () => process.exit(1);

/** A message, in the order of its partition. */
interface Received {
  readonly position: number;
  /** Its key: an event's domain. What has none is a stream of its own. */
  readonly stream: string;
  readonly message: ReceivedMessage;
}

/** A partition that is this member's. */
interface Assigned {
  /** Absent until its first records come. */
  dispatch: OrderedDispatch<Received> | undefined;
  /** Everything at or below is handled or parked, as far as known. */
  position: number;
  /** The next offset to read, as the group knows it. */
  committed: number;
  /** The offset after the last record, as far as known. */
  end: number;
  /** When it last moved, was at its end, or could not be expected to move. */
  wellAt: number;
}

/**
 * Nest transport that hands the events of a topic to `@EventPattern` handlers, in the order of each stream, at least
 * once; the processes of a group share its partitions. An offset is committed when all before it is handled or parked.
 *
 * Reading, handling and committing go on side by side: a handler that takes long, or is called again, holds up the
 * stream of its event and nothing else, until so much waits that its partition is paused.
 */
export class KafkaTransport extends EventTransport<KafkaTransportStatus> {
  override readonly transportId = Symbol('kafka');
  private readonly closing = new AbortController();
  /** One listener for all sessions. */
  private readonly closeAsked = aborted(this.closing.signal);
  private readonly partitions = new Map<number, Assigned>();
  /** Dispatches of partitions that are others' now, until their handlers have ended. */
  private readonly leaving = new Set<Promise<void>>();
  private running: Promise<void> | undefined;
  private member: GroupMember | undefined;
  private committing: Promise<void> | undefined;
  private asking: Promise<void> | undefined;
  private admin: KafkaAdmin | undefined;
  private state: KafkaTransportStatus = 'connecting';
  /** When it last had its place in the group, or could not be expected to have it. */
  private wellAt = Date.now();
  /** The last attempt to connect has failed: to wait for them is all that can be done. */
  private brokersRefuse = true;

  constructor(private readonly options: KafkaTransportOptions) {
    super(options);
  }

  unwrap<T>(): T {
    return this.options.client as T;
  }

  /**
   * For a liveness probe: progress counts, not a connection.
   *
   * @throws {Error} when, for `afterMs`, this process was behind in a partition and did not move, or had no place in
   *   its group, although the brokers and the database answered.
   */
  override assertProgress(afterMs = stalledMs): void {
    this.noteProgress();
    const oldest = Date.now() - afterMs;
    const at = (time: number) => new Date(time).toISOString();
    if (this.wellAt < oldest) throw new Error(`${this.group} has had no place in its group since ${at(this.wellAt)}`);
    for (const [partition, { position, end, wellAt }] of this.partitions)
      if (wellAt < oldest)
        throw new Error(
          `${this.group} stands at offset ${position + 1} of ${end} in partition ${partition} since ${at(wellAt)}`,
        );
  }

  /**
   * For a readiness probe.
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
    let sum = 0;
    for (const { position, end } of this.partitions.values()) sum += Math.max(0, end - position - 1);
    return this.state === 'joined' ? sum : undefined;
  }

  private async run(): Promise<void> {
    const { signal } = this.closing;
    for (let failures = 1; !signal.aborted; failures++) {
      this.become('connecting');
      const since = Date.now();
      try {
        await this.session();
      } catch (error) {
        if (!(error instanceof KafkaAway)) {
          this.become('failed');
          this.logger.error(`The consumer group ${this.group} cannot go on: ${describeError(error)}`);
          return (this.options.onFatal ?? fatal)(error);
        }
        this.logger.warn(error.message);
        await this.closeAdmin();
      }
      if (Date.now() - since > 10_000) failures = 1;
      await pause(backOffMs({ baseMs: 200, capMs: 3_000 }, failures), signal);
    }
    this.become('closed');
  }

  /** From joining the group to the client's crash, or the close. */
  private async session(): Promise<void> {
    const { client, topic, groupId, commitMs = 200, endsMs = 2_000 } = this.options;
    const { signal } = this.closing;
    if (!(await this.topicIsThere())) return;
    let crash: (error: Error) => void = () => undefined;
    const crashed = new Promise<never>((_, reject) => (crash = reject));
    crashed.catch(() => undefined);
    const reading: Reading = {
      assigned: (partitions) => this.assign(partitions),
      records: (partition, messages, end) => this.take(partition, messages, end, crash),
      rebalancing: () => void this.commit(),
      crashed: crash,
    };
    const timers = [
      setInterval(() => void this.commit(), commitMs),
      setInterval(() => {
        this.asking ??= this.askForEnds().finally(() => (this.asking = undefined));
      }, endsMs),
    ];
    const joining = client.member(groupId, topic, reading);
    try {
      // Whatever it waits for, a close does not.
      this.member = (await Promise.race([joining, crashed, this.closeAsked])) ?? undefined;
      await Promise.race([this.closeAsked, crashed]);
    } finally {
      if (!signal.aborted) this.become('connecting');
      // It stays a member meanwhile: what is done now is still this process's to commit.
      await this.endHandlers();
      await this.commit();
      timers.forEach(clearInterval);
      this.member = undefined;
      for (const each of this.partitions.values()) each.dispatch = undefined;
      // One that joins late must leave too, or its partitions would be nobody's.
      const left = Promise.allSettled([joining.then((member) => member.close()), this.closeAdmin()]);
      await (signal.aborted ? Promise.race([left, sleep(leaveMs, undefined, { ref: false })]) : left);
    }
  }

  private async topicIsThere(): Promise<boolean> {
    const { topic } = this.options;
    const { signal } = this.closing;
    for (let tries = 0; !signal.aborted; tries++) {
      const admin = await Promise.race([this.connectedAdmin(), this.closeAsked]);
      if (!admin) return false;
      if (await admin.hasTopic(topic)) return true;
      if (tries === 0) this.logger.log(`Waits for the topic ${topic}, which event-relay creates`);
      this.wellAt = Date.now();
      await pause(500, signal);
    }
    return false;
  }

  private assign(assigned: readonly number[]): void {
    for (const [partition, { dispatch }] of this.partitions)
      if (!assigned.includes(partition)) {
        this.partitions.delete(partition);
        this.leave(dispatch);
      }
    for (const partition of assigned)
      if (!this.partitions.has(partition)) {
        this.partitions.set(partition, {
          ...{ dispatch: undefined, position: -1, committed: 0, end: 0 },
          wellAt: Date.now(),
        });
        // It may have been paused when it was this member's before.
        this.member?.resume(partition);
      }
    this.logger.log(`Reads partitions ${assigned.join(', ') || '(none)'} of ${this.options.topic} for ${this.group}`);
    this.become('joined');
  }

  private take(
    partition: number,
    messages: readonly ReceivedMessage[],
    end: number,
    broken: (error: Error) => void,
  ): void {
    const assigned = this.partitions.get(partition);
    // Of a partition that has gone to another member meanwhile, or after the last commit.
    if (!assigned || this.closing.signal.aborted) return;
    const first = messages[0]!.offset;
    if (first < assigned.committed) {
      // What was read once is not there any more: the topic has been made anew, or has lost its end.
      this.leave(assigned.dispatch);
      assigned.dispatch = undefined;
      this.member?.resume(partition);
    }
    if (!assigned.dispatch) Object.assign(assigned, { committed: first, position: first - 1 });
    const dispatch = (assigned.dispatch ??= this.dispatchFrom(first - 1, broken));
    assigned.end = end;
    for (const message of messages) {
      // After a rebalance a partition that was kept is read again from its last commit.
      if (message.offset <= dispatch.seen) continue;
      if (!this.wants(eventTypeOf(message))) dispatch.skip(message.offset);
      else {
        const stream = message.key?.toString('utf8') || `offset ${message.offset}`;
        dispatch.push({ position: message.offset, stream, message });
      }
    }
    if (dispatch.hasRoom) return;
    this.member?.pause(partition);
    void dispatch.room().then(() => {
      if (this.partitions.get(partition)?.dispatch === dispatch) this.member?.resume(partition);
    });
  }

  /** No more is taken from it; its handlers come to their end. */
  private leave(dispatch: OrderedDispatch<Received> | undefined): void {
    const left: Promise<void> | undefined = dispatch?.stop().finally(() => this.leaving.delete(left!));
    if (left) this.leaving.add(left);
  }

  private dispatchFrom(after: number, broken: (error: Error) => void): OrderedDispatch<Received> {
    const parked = ({ message }: Received) => {
      try {
        return parkedEvent(fromCloudEvent(message));
      } catch {
        return parkedRaw(this.options.topic, message, eventTypeOf(message));
      }
    };
    return this.dispatch<Received>({
      ...{ after, backlog, concurrency: this.options.concurrency ?? 4 },
      handle: async ({ message }) => this.handle(fromCloudEvent(message)),
      parked,
      park: (what, error, tries) => this.park(what, error, tries),
      broken: (error) => broken(error as Error),
    });
  }

  /** For as long as the database is away: what is not parked is not done. */
  private async park(
    what: Pick<ParkedMessage, 'message' | 'type' | 'event' | 'raw'>,
    error: unknown,
    tries: number,
  ): Promise<void> {
    const parkedMessages = new ParkedMessages((text, values) => this.pool.query(text, values));
    for (let failures = 1; ; failures++) {
      try {
        return await parkedMessages.park(this.group, what, error, tries);
      } catch (parkError) {
        if (!isConnectionLoss(parkError) || this.closing.signal.aborted) throw parkError;
        this.databaseAwayAt = Date.now();
        await pause(backOffMs(this.backOff, failures), this.closing.signal);
      }
    }
  }

  private commit(): Promise<void> {
    return (this.committing ??= this.commitMoved().finally(() => (this.committing = undefined)));
  }

  /** An offset that cannot be committed now is with the next ones, or is read again by whoever has the partition. */
  private async commitMoved(): Promise<void> {
    this.noteProgress();
    const moved = [...this.partitions].filter(([, { position, committed }]) => position + 1 > committed);
    if (!this.member || moved.length === 0) return;
    const offsets = new Map(moved.map(([partition, { position }]) => [partition, position + 1]));
    try {
      await this.member.commit(offsets);
      for (const [partition, each] of moved) each.committed = offsets.get(partition)!;
    } catch (error) {
      this.logger.debug(`Offsets are not committed: ${(error as Error).message}`);
    }
  }

  /** Resolves when no handler runs any more, or after `closeWithinMs` when the process closes. */
  private async endHandlers(): Promise<void> {
    const late = this.closeAsked.then(() => sleep(this.closeWithinMs, undefined, { ref: false }));
    const stopped = [...this.partitions.values()].map(({ dispatch }) => dispatch?.stop());
    await Promise.race([Promise.all([...stopped, ...this.leaving]), late]);
  }

  private async connectedAdmin(): Promise<KafkaAdmin> {
    if (this.admin) return this.admin;
    try {
      this.admin = await this.options.client.admin();
      this.brokersRefuse = false;
      return this.admin;
    } catch (error) {
      this.brokersRefuse = true;
      throw error;
    }
  }

  private async closeAdmin(): Promise<void> {
    const { admin } = this;
    this.admin = undefined;
    await admin?.close().catch((error: Error) => this.logger.debug(`Not closed: ${error.message}`));
  }

  /** Asked over a connection of its own, so that a reader that hears nothing any more is noticed. */
  private async askForEnds(): Promise<void> {
    const { topic, groupId } = this.options;
    try {
      const admin = await this.connectedAdmin();
      const ends = await answered(admin.ends(topic));
      const unread = [...this.partitions.values()].some(({ dispatch }) => !dispatch);
      const committed = unread ? await answered(admin.committed(groupId, topic)) : new Map<number, number>();
      for (const [partition, each] of this.partitions) {
        each.end = ends.get(partition) ?? 0;
        if (!each.dispatch) each.position = (committed.get(partition) ?? 0) - 1;
      }
    } catch (error) {
      this.logger.warn(`The ends of ${topic} are not known: ${(error as Error).message}`);
      // It may hang as what was asked did; the next question gets a new connection.
      void this.closeAdmin();
    }
  }

  private noteProgress(): void {
    const now = Date.now();
    // Handlers that only wait for the database are called again at least this often.
    const databaseAway = now - this.databaseAwayAt < this.backOff.capMs + 2_000;
    const excused = this.brokersRefuse || databaseAway || this.closing.signal.aborted;
    if (excused || this.state === 'joined') this.wellAt = now;
    for (const each of this.partitions.values()) {
      const position = each.dispatch?.position ?? each.position;
      // An end is the offset after the last record.
      if (excused || position !== each.position || position + 1 >= each.end) each.wellAt = now;
      each.position = position;
    }
  }

  private become(state: KafkaTransportStatus): void {
    this.state = state;
    this._status$.next(state);
  }
}

/** @throws {KafkaAway} when it takes too long, which the client itself may not notice. */
async function answered<T>(asked: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new KafkaAway(`no answer within ${answerMs} ms`)), answerMs);
  });
  try {
    return await Promise.race([asked, late]);
  } finally {
    clearTimeout(timer);
  }
}
