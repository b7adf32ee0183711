import { setTimeout as delay } from 'node:timers/promises';
import {
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
  type OnModuleDestroy,
} from '@nestjs/common';
import { EventLog, LogWentBack, type RecordedEvent } from '@app/event-store';
import type { DomainEvent } from '@app/mail-domain';
import type { MailboxEvent } from '@app/mailbox';
import { backOffMs, HealthProbes, within } from '@app/runtime';
import { span } from '@app/tracing';
import { ApiError } from '../http/api-error';

/** Milliseconds that requests which wait for an outcome may continue after the process begins to stop. */
const shutdownPatienceMs = 7_000;
/** Milliseconds after which the database counts as away for the liveness probe, as while others hold its tables. */
const answerWithinMs = 500;
/** Milliseconds within which the follower must reach the head of the log; after that the liveness probe fails. */
const progressWithinMs = 2_000;

export interface Expectation {
  /** Resolves with the event, or with undefined when it does not come in time or the process stops. Call it once. */
  within(milliseconds: number): Promise<RecordedEvent | undefined>;
  /** Cancels the expectation. Idempotent. */
  drop(): void;
}

/**
 * Resumes requests that wait for an event of another process about a domain. Each process follows the log once,
 * whatever the number of waiting requests.
 */
@Injectable()
export class Outcomes implements OnApplicationBootstrap, OnModuleDestroy, BeforeApplicationShutdown {
  private readonly logger = new Logger(Outcomes.name);
  private readonly expected = new Map<string, Set<(event: RecordedEvent | undefined) => void>>();
  /** How many requests wait for events of a type. */
  private readonly awaited = new Map<string, number>();
  private readonly stop = new AbortController();
  private stopping = false;
  private position = 0;
  /** Whether the follower waits after a fault before it tries again, which a restart would not hasten. */
  private isWaiting = false;
  private following: Promise<void> | undefined;

  constructor(
    private readonly log: EventLog,
    probes: HealthProbes,
  ) {
    probes.add('live', 'log', () => this.checkProgress());
    probes.add('ready', 'accepting', async () => {
      if (this.stopping) throw new Error('the process is stopping');
      await this.log.head();
    });
  }

  async onApplicationBootstrap(): Promise<void> {
    this.position = await this.log.head();
    this.following = this.follow();
  }

  /**
   * Expects an event of one of the types in a stream. Call it before the append that causes the event, so that the
   * event cannot be missed.
   *
   * @throws {ApiError} `service_unavailable` when the process is stopping and accepts no long requests any more.
   */
  expect(stream: string, types: readonly (DomainEvent | MailboxEvent)['type'][]): Expectation {
    if (this.stopping)
      throw new ApiError('service_unavailable', 'This server is about to stop. Try again.', { retryAfter: 1 });
    let settle!: (event: RecordedEvent | undefined) => void;
    const outcome = new Promise<RecordedEvent | undefined>((resolve) => (settle = resolve));
    const listener = (event: RecordedEvent | undefined) => {
      if (event === undefined || (types as readonly string[]).includes(event.type)) settle(event);
    };
    const listeners = this.expected.get(stream) ?? new Set();
    this.expected.set(stream, listeners.add(listener));
    this.count(types, 1);
    const drop = () => {
      if (listeners.delete(listener)) this.count(types, -1);
      if (listeners.size === 0 && this.expected.get(stream) === listeners) this.expected.delete(stream);
    };
    const within = (milliseconds: number) =>
      span('wait for the outcome', { attributes: { 'sendmux.events': types.join(', ') } }, async () => {
        const timer = setTimeout(() => settle(undefined), Math.max(0, milliseconds));
        try {
          return await outcome;
        } finally {
          clearTimeout(timer);
          drop();
        }
      });
    return { within, drop };
  }

  /** Lets waiting requests finish for a while: the log is still followed at this point of the shutdown. */
  async onModuleDestroy(): Promise<void> {
    this.stopping = true;
    const until = Date.now() + shutdownPatienceMs;
    while (this.expected.size > 0 && Date.now() < until) await delay(20);
    for (const listeners of this.expected.values()) for (const listener of listeners) listener(undefined);
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stop.abort();
    await this.following;
  }

  private async follow(): Promise<void> {
    const { signal } = this.stop;
    const isPromptFor = (type: string) => (this.awaited.get(type) ?? 0) > 0;
    for (let failures = 0; !signal.aborted;) {
      try {
        for await (const events of this.log.follow({ after: this.position, signal, isPromptFor })) {
          failures = 0;
          for (const event of events) this.deliver(event);
        }
        return;
      } catch (error) {
        // Waiting requests are not lost: at their deadline they read the stream.
        failures++;
        // What comes now gets positions that were delivered for other events.
        if (error instanceof LogWentBack) this.position = error.newest;
        this.logger.warn({ error: (error as Error).message }, 'the log cannot be followed just now');
        this.isWaiting = true;
        await delay(backOffMs({ baseMs: 100, capMs: 1_000 }, failures));
        this.isWaiting = false;
      }
    }
  }

  private count(types: readonly string[], more: number): void {
    for (const type of types) this.awaited.set(type, (this.awaited.get(type) ?? 0) + more);
  }

  private deliver(event: RecordedEvent): void {
    this.position = event.position;
    for (const listener of this.expected.get(event.stream) ?? []) listener(event);
  }

  private async checkProgress(): Promise<void> {
    const { position } = this;
    const next = await within(answerWithinMs, this.log.read({ after: position, limit: 1 })).then(
      ({ events }) => events[0],
      // Restarting this process does not repair the database, so only the readiness probe reports it.
      () => undefined,
    );
    const until = Date.now() + progressWithinMs;
    while (next && this.position < next.position && !this.isWaiting) {
      if (Date.now() > until) throw new Error(`the follower of the log stands still at position ${position}`);
      await delay(50);
    }
  }
}
