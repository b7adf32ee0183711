import type { Logger } from '@nestjs/common';
import { eventTypeOf, type ReceivedMessage } from './cloud-event';
import type { GroupMember } from './kafka-driver';
import type { OrderedDispatch } from './ordered-dispatch';

/** A message with its place in its partition. */
export interface KafkaDelivery {
  readonly position: number;
  /** The message's key: the domain's id. A message without a key is a stream of its own. */
  readonly stream: string;
  readonly message: ReceivedMessage;
}

export interface KafkaPartitionsOptions {
  readonly topic: string;
  readonly group: string;
  readonly logger: Pick<Logger, 'log'>;
  /** Gives false for an event type that no handler of this process takes. */
  wants(type: string | undefined): boolean;
  /** Makes the dispatch of a partition that is read from the record after this offset. */
  dispatchFrom(after: number): OrderedDispatch<KafkaDelivery>;
  /** Called when a partition cannot be paused or resumed, so that the member must join again. */
  readonly broken: (error: Error) => void;
}

/** A partition that is assigned to this member. */
interface Partition {
  /** Absent until the first records arrive. */
  dispatch: OrderedDispatch<KafkaDelivery> | undefined;
  /** The highest known offset at and below which everything is handled or parked. */
  position: number;
  /** The next offset to read, as committed by the group. */
  committed: number;
  /** The offset after the last known record. */
  end: number;
  /**
   * When the partition last made progress, was read to its end, or could not be expected to make progress; milliseconds
   * since the epoch.
   */
  wellAt: number;
}

/**
 * The partitions that are assigned to this member. Each has a dispatch, is paused while the dispatch has no room, and
 * knows which offset may be committed.
 */
export class KafkaPartitions {
  /** Absent until the member has joined, and after it has left. */
  member: Pick<GroupMember, 'pause' | 'resume'> | undefined;
  private readonly partitions = new Map<number, Partition>();
  /** Dispatches of partitions that now belong to another member, until their handlers have ended. */
  private readonly leaving = new Set<Promise<void>>();

  constructor(private readonly options: KafkaPartitionsOptions) {}

  /** Replaces the assigned partitions by these. */
  assign(assigned: readonly number[]): void {
    const { topic, group, logger } = this.options;
    for (const [partition, { dispatch }] of this.partitions)
      if (!assigned.includes(partition)) {
        this.partitions.delete(partition);
        this.leave(dispatch);
      }
    for (const partition of assigned)
      if (!this.partitions.has(partition)) {
        const wellAt = Date.now();
        this.partitions.set(partition, { dispatch: undefined, position: -1, committed: 0, end: 0, wellAt });
        // It may have been paused when it was assigned to this member before.
        this.resume(partition);
      }
    logger.log(`Reads partitions ${assigned.join(', ') || '(none)'} of ${topic} for ${group}`);
  }

  /**
   * Dispatches records, and pauses their partition when its dispatch is full. It ignores records of a partition that
   * now belongs to another member.
   *
   * @param end the offset after the last record of the partition.
   */
  take(partition: number, messages: readonly ReceivedMessage[], end: number): void {
    const assigned = this.partitions.get(partition);
    if (!assigned) return;
    const dispatch = this.dispatchOf(partition, assigned, messages[0]!.offset);
    assigned.end = end;
    for (const message of messages) {
      // After a rebalance a partition that this member keeps is read again from its last commit.
      if (message.offset <= dispatch.seen) continue;
      if (!this.options.wants(eventTypeOf(message))) dispatch.skip(message.offset);
      else {
        const stream = message.key?.toString('utf8') || `offset ${message.offset}`;
        dispatch.push({ position: message.offset, stream, message });
      }
    }
    if (!dispatch.hasRoom) this.pauseUntilRoom(partition, dispatch);
  }

  /** Gives the next offset to read of each partition that has moved since its last commit. */
  uncommitted(): Map<number, number> {
    const moved = [...this.partitions].filter(([, { position, committed }]) => position + 1 > committed);
    return new Map(moved.map(([partition, { position }]) => [partition, position + 1]));
  }

  committed(offsets: ReadonlyMap<number, number>): void {
    for (const [partition, offset] of offsets) {
      const assigned = this.partitions.get(partition);
      if (assigned) assigned.committed = offset;
    }
  }

  /** True when no record of some partition has arrived yet, so that only the group's offsets show its progress. */
  get someUnread(): boolean {
    return [...this.partitions.values()].some(({ dispatch }) => !dispatch);
  }

  /**
   * Notes what the brokers report: the offset after each partition's last record, and the group's committed offsets.
   */
  noteOffsets(ends: ReadonlyMap<number, number>, committed: ReadonlyMap<number, number>): void {
    for (const [partition, each] of this.partitions) {
      each.end = ends.get(partition) ?? 0;
      if (!each.dispatch) each.position = (committed.get(partition) ?? 0) - 1;
    }
  }

  /** @param excused no progress can be expected now, such as while the brokers or the database are away. */
  noteProgress(now: number, excused: boolean): void {
    for (const each of this.partitions.values()) {
      const position = each.dispatch?.position ?? each.position;
      if (excused || position !== each.position || position + 1 >= each.end) each.wellAt = now;
      each.position = position;
    }
  }

  /** Counts the records that are neither handled nor parked. */
  behind(): number {
    let sum = 0;
    for (const { position, end } of this.partitions.values()) sum += Math.max(0, end - position - 1);
    return sum;
  }

  /** @throws {Error} when a partition is behind and has made no progress since `oldest`. */
  assertProgress(oldest: number): void {
    for (const [partition, { position, end, wellAt }] of this.partitions)
      if (wellAt < oldest) {
        const since = new Date(wellAt).toISOString();
        const place = `offset ${position + 1} of ${end} in partition ${partition}`;
        throw new Error(`${this.options.group} stands at ${place} since ${since}`);
      }
  }

  /**
   * Starts no more handlers. Resolves when none runs, including those of partitions that now belong to other members.
   */
  async stopHandlers(): Promise<void> {
    const stopped = [...this.partitions.values()].map(({ dispatch }) => dispatch?.stop());
    await Promise.all([...stopped, ...this.leaving]);
  }

  /** Forgets the member and the dispatches. The positions remain known until the next assignment. */
  end(): void {
    this.member = undefined;
    for (const each of this.partitions.values()) each.dispatch = undefined;
  }

  private dispatchOf(partition: number, assigned: Partition, first: number): OrderedDispatch<KafkaDelivery> {
    if (first < assigned.committed) {
      // The committed offsets are beyond the end: the topic was created again, or has lost its last records.
      this.leave(assigned.dispatch);
      assigned.dispatch = undefined;
      this.resume(partition);
    }
    if (assigned.dispatch) return assigned.dispatch;
    assigned.committed = first;
    assigned.position = first - 1;
    return (assigned.dispatch = this.options.dispatchFrom(first - 1));
  }

  private pauseUntilRoom(partition: number, dispatch: OrderedDispatch<KafkaDelivery>): void {
    const { broken } = this.options;
    try {
      this.member?.pause(partition);
    } catch (error) {
      return broken(error as Error);
    }
    dispatch.room().then(() => {
      if (this.partitions.get(partition)?.dispatch === dispatch) this.resume(partition);
    }, broken);
  }

  /** Never throws: no caller could catch the error, and a client that has disconnected cannot resume. */
  private resume(partition: number): void {
    try {
      this.member?.resume(partition);
    } catch (error) {
      this.options.broken(error as Error);
    }
  }

  /** Stops dispatching; handlers that run may finish. */
  private leave(dispatch: OrderedDispatch<KafkaDelivery> | undefined): void {
    if (!dispatch) return;
    const left: Promise<void> = dispatch.stop().finally(() => this.leaving.delete(left));
    this.leaving.add(left);
  }
}
