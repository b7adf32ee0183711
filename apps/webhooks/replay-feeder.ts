import { setTimeout as delay } from 'node:timers/promises';
import { Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { eventId, type EventLog, type PageSelection, type RecordedEvent } from '@app/event-store';
import { announcedEvents, type WebhookMessages } from '@app/presentation';
import { teamStreams } from '@app/read-model';
import { backOffMs } from '@app/runtime';
import { mostWaiting, type ClaimedReplay, type ReplayedMessage, type WebhookReplays } from '@app/webhooks';
import type { Pool } from 'pg';

/** The most messages that are put on at once. While they are, the others that may wait keep the lane busy. */
const pageSize = mostWaiting / 4;
/** Replays that are fed at once. Each is given back after a page. */
const atOnce = 4;
/** Milliseconds after which another process goes on with a replay whose process has died. */
const leaseMs = 30_000;
/** Pages without a message that are read before a replay is given back, as in a part of the log that is of others. */
const emptyPages = 16;
/** Milliseconds until a replay is looked at again for which nothing is to be put on, growing while nothing is done. */
const still = { baseMs: 20, capMs: 5_000 };
/** Milliseconds between two looks for replays: where the last has found some, where none, and after a failure. */
const pauses = { busy: 5, idle: 1_000, failed: 5_000 };
/** Replays whose streams are kept in memory, which may be many, and of which it is known that they do not go on. */
const mostKept = { streams: 100, stuck: 10_000 };

/**
 * Puts the events of replays on their lanes, page by page in the order of the log, and no more than may wait there. Any
 * number of processes may do it: each page is put on under a lease, together with the position that is reached.
 */
export class ReplayFeeder implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(ReplayFeeder.name);
  private readonly stopping = new AbortController();
  private loop: Promise<void> | undefined;
  /** The streams of running replays. Those that are made later are not in the span of a replay. */
  private readonly streams = new Map<string, PageSelection['streams']>();
  /** How many of the deliveries of a replay were done at the last look that put nothing on, and how many found that. */
  private readonly stuck = new Map<string, { readonly done: number; readonly looks: number }>();

  /** @param added is told of each webhook on whose lane `replay` something was put. */
  constructor(
    private readonly pool: Pool,
    private readonly replays: WebhookReplays,
    private readonly log: Pick<EventLog, 'readSelected'>,
    private readonly messages: Pick<WebhookMessages, 'typeOf'>,
    private readonly added: (webhook: string) => void = () => undefined,
  ) {}

  onApplicationBootstrap(): void {
    this.loop = this.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    await this.loop;
  }

  /**
   * Feeds the replays that are due, each by at most one page.
   *
   * @returns how many there were.
   */
  async pass(): Promise<number> {
    const claimed = await this.replays.claim(atOnce, leaseMs);
    const fed = await Promise.allSettled(claimed.map((replay) => this.feed(replay)));
    const failure = fed.find((each) => each.status === 'rejected');
    if (failure) throw failure.reason;
    return claimed.length;
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      let pauseMs = pauses.failed;
      try {
        pauseMs = (await this.pass()) > 0 ? pauses.busy : pauses.idle;
      } catch (error) {
        this.logger.warn(`Replays are fed again in ${pauseMs} ms: ${(error as Error).message}`);
      }
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }

  private async feed(replay: ClaimedReplay): Promise<void> {
    const hasPlace = replay.waiting <= mostWaiting - pageSize;
    const goesOn = hasPlace && replay.position < replay.span.upTo;
    if (goesOn) await this.putOn(replay);
    await this.replays.release(replay, this.pauseAfter(replay, goesOn));
  }

  private async putOn(replay: ClaimedReplay): Promise<void> {
    const selection = await this.selectionOf(replay);
    let { position } = replay;
    for (let pages = 0; pages < emptyPages && position < replay.span.upTo; pages++) {
      const span = { after: position, upTo: replay.span.upTo };
      const { events, settledUpTo } = await this.log.readSelected(span, selection, pageSize);
      const found = await this.messagesOf(events, replay);
      position = settledUpTo;
      if (found.length === 0 && pages < emptyPages - 1 && position < replay.span.upTo) continue;
      const isFed = await this.replays.feed(replay, found, position);
      if (isFed && found.length > 0) this.added(replay.webhook);
      return;
    }
  }

  private async messagesOf(events: readonly RecordedEvent[], { types }: ClaimedReplay): Promise<ReplayedMessage[]> {
    const typed = await Promise.all(events.map(async (event) => ({ event, type: await this.messages.typeOf(event) })));
    return typed.flatMap(({ event, type }) =>
      type && (types === null || types.includes(type))
        ? [
            {
              message: eventId(event),
              type,
              subject: event.stream,
              version: event.version,
              position: event.position,
              occurredAt: event.time,
              traceparent: event.metadata.traceparent,
            },
          ]
        : [],
    );
  }

  private async selectionOf({ id, team, domains, from, to }: ClaimedReplay): Promise<PageSelection> {
    const streams = this.streams.get(id) ?? (await teamStreams(this.pool, { team, domains }));
    keep(this.streams, id, streams, mostKept.streams);
    return { types: announcedEvents, from, to, streams };
  }

  /** Gives the milliseconds after which a replay is due again. */
  private pauseAfter({ id, delivered, failed }: ClaimedReplay, goesOn: boolean): number {
    if (goesOn) {
      this.stuck.delete(id);
      return 0;
    }
    const done = delivered + failed;
    const before = this.stuck.get(id);
    const looks = before?.done === done ? before.looks + 1 : 1;
    keep(this.stuck, id, { done, looks }, mostKept.stuck);
    return backOffMs(still, looks);
  }
}

function keep<Value>(map: Map<string, Value>, id: string, value: Value, most: number): void {
  map.delete(id);
  map.set(id, value);
  const [oldest] = map.keys();
  if (map.size > most) map.delete(oldest!);
}
