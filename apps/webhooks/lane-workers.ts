import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { backOffMs } from '@app/runtime';
import { originOf, trace } from '@app/tracing';
import {
  signaturesOf,
  testType,
  type Added,
  type ClaimedLane,
  type DueSubject,
  type LaneHealth,
  type LaneKey,
  type LaneOutcome,
  type SecretKeys,
  type WebhookLanes,
  type WebhookType,
} from '@app/webhooks';
import { Batches } from './batches';
import type { EndpointClient, TryResult } from './endpoint-client';
import { EndpointStates } from './endpoint-states';
import { LaneRun, type LaneServices, type MessageToSend, type Written } from './lane-run';
import { countTry, noteFirstTry } from './metrics';
import { retryTimes, type RetryTimes } from './retry-times';
import { TryBudget, type TryLimits } from './try-budget';

/** Makes the bodies of messages. */
export interface MessageBodies {
  /** @returns the body by the id of the message; one that cannot be made is left out. */
  bodies(
    messages: readonly {
      readonly message: string;
      readonly type: WebhookType;
      readonly replayId?: string | undefined;
    }[],
  ): Promise<ReadonlyMap<string, Buffer>>;
  testBody(of: {
    readonly message: string;
    readonly webhook: string;
    readonly team: string;
    readonly time: Date;
  }): Buffer;
}

export interface LaneWorkersOptions {
  readonly lanes: WebhookLanes;
  readonly messages: MessageBodies;
  readonly keys: Pick<SecretKeys, 'open' | 'ids'>;
  readonly client: Pick<EndpointClient, 'send' | 'close' | 'forget'>;
  readonly times?: RetryTimes;
  readonly tries?: TryLimits;
  /** Lanes that are held at once; 1,000, 250 and 250 when absent. */
  readonly held?: Readonly<Record<LaneHealth, number>>;
  /** Milliseconds after which the lane of a process that died is taken over; 10,000 when absent. */
  readonly leaseMs?: number;
  /** Longest wait until due lanes are looked for again, in milliseconds; 500 when absent. */
  readonly pollMs?: number;
}

/** Deliveries that all lanes together read ahead, one lane at most, and one subject. */
const readAhead = { all: 8_192, most: 256, subject: 16 };
/** Lanes that are claimed at once. */
const claimedAtOnce = 100;
/** Milliseconds after which a lane makes room for one that waits. */
const heldLongMs = 2_000;
/** Milliseconds for which the first outcome waits for others, since each statement has a price of its own. */
const gatherMs = 5;
/** Items of one statement. */
const batchLimit = 500;
/** Milliseconds between two lines of the log about the same kind of fault. */
const quietMs = 5_000;
/** Milliseconds between two looks for endpoints whose keys this process lacks. */
const keysMs = 60_000;
const userAgent = 'sendmux-webhooks/1';

/** Claims lanes on which something is due, and runs them, from `run` to `stop`. */
export class LaneWorkers {
  private readonly logger = new Logger('webhooks');
  private readonly options: Required<LaneWorkersOptions>;
  private readonly runs = new Map<string, LaneRun>();
  private readonly states = new EndpointStates();
  private readonly stopping = new AbortController();
  private readonly cut = new AbortController();
  private readonly writes: Batches<Written, boolean>;
  private readonly releases: Batches<LaneKey, boolean>;
  private readonly services: LaneServices;
  private loop: Promise<void> | undefined;
  private renewal: NodeJS.Timeout | undefined;
  private keysLook: NodeJS.Timeout | undefined;
  private isRenewing = false;
  private readonly warned = new Map<string, number>();
  private awake = false;
  private wakeUp = (): void => undefined;

  constructor(options: LaneWorkersOptions) {
    this.options = {
      times: retryTimes,
      tries: { steady: 192, troubled: 64, down: 64, all: 1_024 },
      held: { steady: 1_000, failing: 250, down: 250 },
      leaseMs: 10_000,
      pollMs: 500,
      ...options,
    };
    const { lanes, times, tries } = this.options;
    const batches = {
      limit: batchLimit,
      signal: this.cut.signal,
      failed: (error: unknown, ms: number) => this.warn('outcomes wait for PostgreSQL', error, `again in ${ms} ms`),
    };
    this.writes = new Batches((written) => this.write(written), { ...batches, gatherMs });
    this.releases = new Batches(async (keys) => {
      const kept = await lanes.release(keys);
      return keys.map(({ token }) => !kept.has(token));
    }, batches);
    this.services = {
      budget: new TryBudget(tries),
      times,
      due: (key, limits, except) => lanes.due(key, limits, except),
      endpoint: (id) => lanes.endpoint(id),
      send: (message) => this.send(message),
      bodies: (endpoint, subjects) => this.bodies(endpoint, subjects),
      write: (written) => this.writes.add(written),
      release: (key) => this.releases.add(key),
      noteHealth: (webhook, isFailing) => lanes.noteHealth(webhook, isFailing),
      disable: (endpoint, because) => this.disable(endpoint, because),
      failed: (what, error) => this.warn(what, error),
      ended: (run) => {
        // This process may have claimed the lane again.
        if (this.runs.get(laneOf(run.key)) === run) this.runs.delete(laneOf(run.key));
        this.wakeUp();
      },
      limits: () => {
        const share = Math.floor(readAhead.all / (this.runs.size + 1));
        return { all: Math.min(readAhead.most, Math.max(readAhead.subject, share)), subject: readAhead.subject };
      },
    };
  }

  run(): void {
    if (this.loop) throw new Error('The lanes are worked on already.');
    this.loop = this.work();
    this.renewal = setInterval(() => void this.renew(), this.options.leaseMs / 3);
    this.keysLook = setInterval(() => void this.tellOfMissingKeys(), keysMs);
    void this.tellOfMissingKeys();
  }

  /** Works on these lanes now: something was added to them. */
  wake(added: readonly Added[]): void {
    for (const { webhook, lane } of added) {
      const run = this.runs.get(`${webhook} ${lane}`);
      if (run) run.wake();
      else this.awake = true;
    }
    if (this.awake) this.wakeUp();
  }

  /** Counts the lanes that this process holds, and the tries that are under way. */
  get load(): { lanes: number; tries: number } {
    return { lanes: this.runs.size, tries: this.services.budget.underWay };
  }

  /**
   * Begins no more tries, waits for those that are under way, and gives the lanes back. Tries that need longer are cut,
   * and made again by whoever has the lane then.
   */
  async stop(withinMs = 5_000): Promise<void> {
    this.stopping.abort();
    clearInterval(this.keysLook);
    this.wakeUp();
    await this.loop;
    for (const run of this.runs.values()) run.close();
    const ended = async () => {
      while (this.runs.size > 0) await delay(10);
    };
    await Promise.race([ended(), delay(withinMs, undefined, { ref: false })]);
    this.cut.abort();
    await this.options.client.close();
    await Promise.race([ended(), delay(1_000, undefined, { ref: false })]);
    clearInterval(this.renewal);
  }

  private async work(): Promise<void> {
    const { pollMs } = this.options;
    let failures = 0;
    while (!this.stopping.signal.aborted) {
      this.awake = false;
      let waitMs = pollMs;
      try {
        let claimed = 0;
        for (const health of ['steady', 'failing', 'down'] as const) claimed += await this.claim(health);
        if (claimed >= claimedAtOnce) waitMs = 0;
        failures = 0;
      } catch (error) {
        waitMs = backOffMs({ baseMs: pollMs, capMs: 5_000 }, ++failures);
        this.warn('lanes could not be claimed', error, `again in ${waitMs} ms`);
      }
      await this.sleep(waitMs);
    }
  }

  /** @returns how many lanes were claimed. */
  private async claim(health: LaneHealth): Promise<number> {
    const { lanes, held, leaseMs, keys } = this.options;
    const mine = [...this.runs.values()].filter((run) => run.health === health);
    const free = held[health] - mine.length;
    if (free <= 0) {
      const [oldest] = mine.sort((a, b) => a.begunAt - b.begunAt);
      if (oldest && performance.now() - oldest.begunAt > heldLongMs) oldest.close();
      return 0;
    }
    const asked = performance.now();
    const claimed = await lanes.claim(health, Math.min(free, claimedAtOnce), leaseMs, keys.ids);
    for (const lane of claimed) {
      const run = new LaneRun(lane, asked + leaseMs, this.states.of(lane.webhook), this.services);
      this.runs.get(laneOf(lane))?.lose();
      this.runs.set(laneOf(lane), run);
      run.pump();
    }
    return claimed.length;
  }

  private async tellOfMissingKeys(): Promise<void> {
    try {
      for (const { keyId, count } of await this.options.lanes.withoutKey(this.options.keys.ids))
        this.logger.warn(
          `nothing can be sent to ${count === 1 ? 'a webhook' : `${count} webhooks`} by this process: WEBHOOK_SECRET_KEYS does not name the key "${keyId}", with which the secrets are encrypted. Add it there.`,
        );
    } catch (error) {
      this.warn('whether a key is missing could not be read', error);
    }
  }

  private async renew(): Promise<void> {
    const { lanes, leaseMs } = this.options;
    const runs = [...this.runs.values()];
    if (runs.length === 0 || this.isRenewing) return;
    this.isRenewing = true;
    const asked = performance.now();
    try {
      const held = await lanes.renew(
        runs.map(({ key }) => key),
        leaseMs,
      );
      for (const run of runs) {
        if (held.has(run.key.token)) run.leaseEnd = asked + leaseMs;
        else run.lose();
      }
    } catch (error) {
      this.warn('leases were not renewed', error);
    }
    this.isRenewing = false;
  }

  private async write(written: readonly Written[]): Promise<boolean[]> {
    // Of several of one lane, the last one says how it is.
    const lanes = new Map<string, LaneOutcome>();
    for (const { lane } of written) lanes.set(lane.key.token, lane);
    const held = await this.options.lanes.record(
      [...lanes.values()],
      written.flatMap(({ outcome }) => outcome ?? []),
      written.flatMap(({ subject }) => subject ?? []),
    );
    return written.map(({ lane }) => held.has(lane.key.token));
  }

  private async bodies(
    endpoint: ClaimedLane['endpoint'],
    subjects: readonly DueSubject[],
  ): Promise<ReadonlyMap<string, Buffer>> {
    const { messages } = this.options;
    const bodies = new Map<string, Buffer>();
    const ofReplays = new Map<string, Map<string, { readonly id: string; readonly type: WebhookType }>>();
    for (const { id, message, type, replay, createdAt } of subjects.flatMap(({ deliveries }) => deliveries)) {
      const { id: webhook, team } = endpoint;
      if (type === testType) bodies.set(id, messages.testBody({ message, webhook, team, time: createdAt }));
      else {
        const those = ofReplays.get(replay) ?? new Map<string, { readonly id: string; readonly type: WebhookType }>();
        ofReplays.set(replay, those.set(message, { id, type }));
      }
    }
    // What is asked for once more may be the same message, of the event and of several replays.
    for (const [replay, those] of ofReplays) {
      const wanted = [...those].map(([message, { type }]) => ({
        message,
        type,
        ...(replay !== '' && { replayId: replay }),
      }));
      for (const [message, body] of await messages.bodies(wanted)) bodies.set(those.get(message)!.id, body);
    }
    return bodies;
  }

  /** Sends a message in the trace of its event. The endpoint is told nothing of that: ids of ours are not its own. */
  private send(message: MessageToSend): Promise<TryResult | undefined> {
    const { endpoint, lane, delivery } = message;
    const { traceparent } = delivery;
    const attributes = {
      'http.request.method': 'POST',
      'sendmux.webhook': endpoint.id,
      'sendmux.webhook.lane': lane,
      'messaging.message.id': delivery.message,
      'http.request.resend_count': delivery.tries || undefined,
    };
    const origin = lane === 'replay' ? { link: traceparent ?? undefined } : originOf(traceparent, delivery.createdAt);
    return trace('deliver', { kind: 'client', attributes, ...origin }, async (span) => {
      const result = await this.post(message);
      span.set({ 'http.response.status_code': result?.status ?? undefined });
      if (result && !result.isSuccess) span.fail(String(result.status ?? 'no_answer'));
      return result;
    });
  }

  private async post({
    endpoint,
    lane,
    delivery,
    body,
    slow,
    isSteady,
  }: MessageToSend): Promise<TryResult | undefined> {
    const { message, replay } = delivery;
    const { client } = this.options;
    const timestamp = Math.floor(Date.now() / 1_000);
    let result: TryResult;
    if (isSteady && lane === 'live' && delivery.tries === 0) noteFirstTry(delivery.createdAt);
    try {
      const headers = {
        'content-type': 'application/cloudevents+json',
        'user-agent': userAgent,
        'webhook-id': message,
        'webhook-timestamp': String(timestamp),
        'webhook-signature': signaturesOf(this.secretsOf(endpoint), message, timestamp, body),
        ...(replay !== '' && { 'webhook-replay': replay }),
      };
      result = await client.send({ webhook: endpoint.id, url: endpoint.url, headers, body, slow });
    } catch (error) {
      // A secret that does not open is ours to mend, and no failure of the endpoint.
      this.warn('nothing can be sent', error, endpoint.id);
      return undefined;
    }
    if (!result.isSuccess && this.cut.signal.aborted) return undefined;
    countTry(lane, result);
    return result;
  }

  private readonly opened = new WeakMap<object, { secrets: readonly string[]; until: number }>();

  /** Opens the secrets of an endpoint once for as long as it is kept: the newest, and in a rotation the one before. */
  private secretsOf(endpoint: ClaimedLane['endpoint']): readonly string[] {
    const known = this.opened.get(endpoint);
    if (known && Date.now() < known.until) return known.secrets;
    const { id, secret, secretKeyId, oldSecret, oldSecretKeyId, oldSecretUntil } = endpoint;
    const signsToo = oldSecret && oldSecretKeyId && oldSecretUntil && oldSecretUntil.getTime() > Date.now();
    const secrets = [
      this.options.keys.open(id, secret, secretKeyId),
      ...(signsToo ? [this.options.keys.open(id, oldSecret, oldSecretKeyId)] : []),
    ];
    this.opened.set(endpoint, { secrets, until: signsToo ? oldSecretUntil.getTime() : Infinity });
    return secrets;
  }

  private async disable({ id, version }: ClaimedLane['endpoint'], because: 'gone' | 'failing'): Promise<void> {
    const { lanes, times, client } = this.options;
    const isDisabled = await lanes.disable(id, version, because, because === 'gone' ? 0 : times.disableAfterMs);
    if (!isDisabled) return;
    client.forget(id);
    this.logger.log(
      because === 'gone'
        ? `${id} is disabled: it has answered 410`
        : `${id} is disabled: it has failed for ${Math.round(times.disableAfterMs / 3_600_000)} hours`,
    );
  }

  /** Logs a fault; of those of one kind one in five seconds, since many lanes meet it together. */
  private warn(kind: string, error: unknown, about = ''): void {
    const now = performance.now();
    if (now - (this.warned.get(kind) ?? -Infinity) < quietMs) return;
    this.warned.set(kind, now);
    const said = error instanceof Error ? error.message : String(error);
    this.logger.warn(`${kind}: ${about && `${about}: `}${said}`);
  }

  private async sleep(milliseconds: number): Promise<void> {
    if (this.awake || this.stopping.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

const laneOf = ({ webhook, lane }: Pick<LaneKey, 'webhook' | 'lane'>): string => `${webhook} ${lane}`;
