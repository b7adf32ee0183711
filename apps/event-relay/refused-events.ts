import type { RecordedEvent } from '@app/event-store';
import {
  batchLength,
  consumerMetrics,
  parkedEvent,
  ParkedMessages,
  RecordRefused,
  toCloudEvent,
  type Query,
} from '@app/messaging';
import { Logger } from '@nestjs/common';

/** The name under which the relay to a topic parks events. */
export const parkingGroup = (topic: string): string => `event-relay/${topic}`;

/** The most events of a redrive that are read at once. */
const redrivenAtOnce = 500;

/**
 * Parks the events that the brokers of a topic refuse for good, and with each the later ones of its stream, so that the
 * order of the stream is kept. A redrive publishes the events of a stream from the first parked one on.
 *
 * The events are parked before the checkpoint passes them, and removed after they are acknowledged, so that a crash
 * at any time loses none.
 */
export class RefusedEvents {
  private readonly logger = new Logger('event-relay');
  private readonly parked: ParkedMessages;

  private constructor(
    query: Query,
    private readonly group: string,
    /** The streams of which events are parked. */
    private readonly waiting: Set<string>,
  ) {
    this.parked = new ParkedMessages(query);
  }

  /**
   * @param query runs on the connection that makes this relay the only active one of its topic.
   * @param isNew the topic is empty, and gets the whole log again: nothing is parked for it.
   */
  static async open(query: Query, topic: string, isNew: boolean): Promise<RefusedEvents> {
    const group = parkingGroup(topic);
    const parked = new ParkedMessages(query);
    if (isNew) await parked.forget(group);
    return new RefusedEvents(query, group, new Set(await parked.streams(group)));
  }

  /** Tells whether an earlier event of the stream is parked. */
  isWaiting({ stream }: RecordedEvent): boolean {
    return this.waiting.has(stream);
  }

  /** Parks events of streams that are waiting. */
  async wait(events: readonly RecordedEvent[]): Promise<void> {
    await this.parked.parkBehind(this.group, events);
  }

  /** Parks an event that was refused, and has its stream wait from now on. */
  async park(event: RecordedEvent, refusal: RecordRefused): Promise<void> {
    const what = parkedEvent(event);
    await this.parked.park(this.group, what, refusal, 1);
    this.waiting.add(event.stream);
    consumerMetrics(this.group).parked();
    this.logger.error(
      `${event.type} ${what.message} is parked, and later events of ${event.stream} wait for it: ${refusal.message}. ` +
        `Mend the cause, then: sendmux parked redrive ${this.group} --all`,
    );
  }

  /**
   * Publishes a part of the events of one stream of which a redrive is requested.
   *
   * @returns whether there is more to redrive.
   * @throws whatever `send` throws, but `RecordRefused`.
   */
  async redrive(send: (events: readonly RecordedEvent[]) => Promise<void>): Promise<boolean> {
    const events = await this.parked.toRedrive(this.group, redrivenAtOnce);
    const [first] = events;
    if (!first) return false;
    for (let length = batchLength(events, (event) => toCloudEvent(event)); ; length >>= 1) {
      const batch = events.slice(0, length);
      try {
        await send(batch);
      } catch (error) {
        if (!(error instanceof RecordRefused)) throw error;
        if (batch.length > 1) continue;
        await this.parked.failedAgain(this.group, first, error);
        this.logger.error(`${first.stream}/${first.version} is refused again, and stays parked: ${error.message}`);
        return true;
      }
      if (!(await this.parked.delivered(this.group, first.stream, batch))) {
        this.waiting.delete(first.stream);
        this.logger.log(`No event of ${first.stream} is parked any more`);
      }
      return true;
    }
  }
}
