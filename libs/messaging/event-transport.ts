import { setTimeout as sleep } from 'node:timers/promises';
import { isPassingFault } from '@app/database';
import type { BackOff } from '@app/runtime';
import { eventId } from '@app/event-store';
import { originOf, trace } from '@app/tracing';
import { Logger } from '@nestjs/common';
import { BaseRpcContext, Server, type CustomTransportStrategy } from '@nestjs/microservices';
import type { Pool } from 'pg';
import { isObservable, lastValueFrom } from 'rxjs';
import { fromCloudEvent, type DeliveredEvent } from './cloud-event';
import { describeError } from './describe-error';
import { consumerMetrics, measure, measureNoMore } from './metrics';
import { CannotBeHandled, OrderedDispatch, type Delivery } from './ordered-dispatch';
import { ParkedMessages, redriveOne, type MessageToPark, type ParkedMessage } from './parked-messages';

export interface EventTransportOptions {
  readonly pool: Pool;
  readonly group: string;
  /**
   * The newest schema version that this process understands, by event type. A newer event is parked until a newer
   * release redrives it. When absent, every event is understood.
   */
  readonly schemaVersions?: Readonly<Record<string, number>>;
  /** Calls of a handler before its event is parked; 5 when absent. */
  readonly attempts?: number;
  /** Wait after a handler's failure; 200 ms to 10 s when absent. */
  readonly backOff?: BackOff;
  /** Milliseconds for which `close` waits for running handlers; 10,000 when absent. */
  readonly closeWithinMs?: number;
  /** Milliseconds between two searches for parked messages to redrive; 1,000 when absent. */
  readonly redriveMs?: number;
  /**
   * Called on a fault that retrying does not repair. When absent, the fault is logged and the process exits with status
   * 1.
   */
  readonly onFatal?: (error: unknown) => void;
}

/**
 * Milliseconds for which a consumer that is behind may make no progress before its process is unhealthy. A handler
 * whose statement waits, as for a table that somebody holds, fails before that, and says so.
 */
export const stalledMs = 40_000;
/** The longest time that a handler whose database gives no answers takes to say so, in milliseconds (`openPool`). */
const silentMs = 35_000;

/**
 * Implements what both transports do with an event: pass it to its `@EventPattern` handler, retry after a failure, and
 * park it after the last attempt, so that later events are not held up.
 */
export abstract class EventTransport<Status extends string>
  extends Server<Record<string, never>, Status>
  implements CustomTransportStrategy
{
  override readonly propagatesEventHandlerErrors = true;
  protected override readonly logger: Logger;
  protected readonly group: string;
  protected readonly pool: Pool;
  protected readonly schemaVersions: Readonly<Record<string, number>> | undefined;
  protected readonly attempts: number;
  protected readonly backOff: BackOff;
  protected readonly closeWithinMs: number;
  /**
   * Until when the database counts as away or busy, in milliseconds since the epoch: until a handler that has failed of
   * it has failed once more. A restart would not repair that.
   */
  private databaseAwayUntil = 0;
  private readonly redriveMs: number;
  private redriving: NodeJS.Timeout | undefined;
  private redrive: Promise<void> | undefined;
  private closed = false;

  protected constructor(options: EventTransportOptions) {
    super();
    this.logger = new Logger(`events ${options.group}`);
    this.group = options.group;
    this.pool = options.pool;
    this.schemaVersions = options.schemaVersions;
    this.attempts = options.attempts ?? 5;
    this.backOff = options.backOff ?? { baseMs: 200, capMs: 10_000 };
    this.closeWithinMs = options.closeWithinMs ?? 10_000;
    this.redriveMs = options.redriveMs ?? 1_000;
  }

  /** Starts reading, and reads until `stop`. */
  protected abstract start(): void;
  protected abstract stop(): Promise<void>;
  /** Counts the events that this process still has to handle; undefined when it does not know. */
  protected abstract behind(): number | undefined;
  /** @throws {Error} when the consumer is behind and makes no progress. */
  abstract assertProgress(): void;

  listen(callback: (error?: unknown) => void): void {
    measure(this.group, { behind: () => this.behind(), parked: () => this.parked.count(this.group) });
    this.redriving = setInterval(() => {
      this.redrive ??= this.redriveAll().finally(() => (this.redrive = undefined));
    }, this.redriveMs);
    this.start();
    callback();
  }

  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.redriving);
    measureNoMore(this.group);
    const redriven = Promise.race([this.redrive, sleep(this.closeWithinMs, undefined, { ref: false })]);
    await this.stop();
    await redriven;
  }

  on(): never {
    throw new Error('The transport emits nothing; see its status.');
  }

  /** Awaits the handler, unlike the base class, which would count a failure as handled. */
  override async handleEvent(pattern: string, packet: { data: unknown }, context: BaseRpcContext): Promise<void> {
    const handler = this.messageHandlers.get(pattern);
    if (!handler) return;
    await new Promise<void>((resolve, reject) => {
      this.runWithProcessingHooks(context, async (runEndHook) => {
        try {
          const result: unknown = await handler(packet.data, context);
          if (isObservable(result)) await lastValueFrom(result, { defaultValue: undefined });
          resolve();
        } catch (error) {
          // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- as the handler threw it
          reject(error);
        } finally {
          runEndHook();
        }
      });
    });
  }

  /**
   * Tells whether this process has to handle an event of this type. It takes a type that it does not know, since such
   * an event has to be parked and not lost.
   */
  protected wants(type: string | undefined): boolean {
    if (type === undefined || this.messageHandlers.has(type)) return true;
    return this.schemaVersions !== undefined && !(type in this.schemaVersions);
  }

  /**
   * Handles an event as a part of the trace that has led to it. A replay has traces of its own, each with a link.
   *
   * @throws {CannotBeHandled} when this release does not understand the event; whatever the handler throws.
   */
  protected handle(event: DeliveredEvent): Promise<void> {
    const { type, time, metadata, replayId, publishedBy } = event;
    const origin = replayId
      ? { parent: publishedBy, link: metadata.traceparent }
      : originOf(publishedBy ?? metadata.traceparent, new Date(time));
    const attributes = {
      'messaging.operation.type': 'process',
      'messaging.consumer.group.name': this.group,
      'messaging.message.id': eventId(event),
      'sendmux.replay': replayId,
    };
    return trace(`process ${type}`, { kind: 'consumer', attributes, ...origin }, () => this.pass(event));
  }

  private async pass(event: DeliveredEvent): Promise<void> {
    const { type, schemaVersion } = event;
    const known = this.schemaVersions?.[type];
    if (this.schemaVersions && known === undefined)
      throw new CannotBeHandled(`No event type ${type} is known here. A newer release may know it: redrive it there.`);
    if (known !== undefined && schemaVersion > known)
      throw new CannotBeHandled(
        `${type} has schema version ${schemaVersion}; this release knows up to ${known}. Redrive it with a newer one.`,
      );
    await this.handleEvent(type, { data: event }, new BaseRpcContext([event]));
  }

  protected noteDatabaseAway(): void {
    this.databaseAwayUntil = Date.now() + this.backOff.capMs + silentMs;
  }

  protected get isDatabaseAway(): boolean {
    return Date.now() < this.databaseAwayUntil;
  }

  protected dispatch<Item extends Delivery>(options: {
    readonly after: number;
    readonly concurrency: number;
    readonly backlog: number;
    handle(item: Item): Promise<void>;
    parked(item: Item): MessageToPark;
    park(what: MessageToPark, error: unknown, tries: number): Promise<void>;
    broken(error: unknown): void;
  }): OrderedDispatch<Item> {
    const metrics = consumerMetrics(this.group);
    return new OrderedDispatch<Item>({
      attempts: this.attempts,
      backOff: this.backOff,
      after: options.after,
      concurrency: options.concurrency,
      backlog: options.backlog,
      handle: async (item) => {
        await options.handle(item);
        metrics.handled();
      },
      failed: (item, error, attempt, retryInMs) => {
        if (isPassingFault(error)) this.noteDatabaseAway();
        const { message, type } = options.parked(item);
        const next = retryInMs === undefined ? 'it is parked' : `again in ${retryInMs} ms`;
        const text = `${type ?? 'A message'} ${message} failed (attempt ${attempt} of ${this.attempts}), ${next}: ${describeError(error)}`;
        if (retryInMs === undefined) this.logger.error(text);
        else {
          metrics.retried();
          this.logger.warn(text);
        }
      },
      park: async (item, error, tries) => {
        await options.park(options.parked(item), error, tries);
        metrics.parked();
      },
      broken: (error) => options.broken(error),
    });
  }

  protected get parked(): ParkedMessages {
    return new ParkedMessages((text, values) => this.pool.query(text, values));
  }

  private async redriveAll(): Promise<void> {
    try {
      while (!this.closed) {
        const tried = await redriveOne(this.pool, this.group, (parked) => this.handleParked(parked));
        if (!tried) return;
        if (tried.error) this.logger.warn(`${tried.message} failed again: ${describeError(tried.error)}`);
        else this.logger.log(`${tried.message} is parked no more`);
      }
    } catch (error) {
      this.logger.debug(`Parked messages cannot be read: ${(error as Error).message}`);
    }
  }

  private async handleParked({ event, raw }: ParkedMessage): Promise<void> {
    const again =
      event ??
      fromCloudEvent({
        headers: raw!.headers,
        value: raw!.value === null ? null : Buffer.from(raw!.value, 'base64'),
      });
    await this.handle(again);
  }
}
