import {
  healthOf,
  type ClaimedLane,
  type DuePage,
  type DueSubject,
  type Lane,
  type LaneHealth,
  type LaneKey,
  type LaneOutcome,
  type Outcome,
  type SubjectOutcome,
  type WaitingDelivery,
} from '@app/webhooks';
import { backOffMs } from '@app/runtime';
import type { TryResult } from './endpoint-client';
import type { EndpointState } from './endpoint-states';
import { waitMs, type RetryTimes } from './retry-times';
import type { TryBudget, TryKind } from './try-budget';

/** One try, with what follows from it, as it is written. */
export interface Written {
  readonly lane: LaneOutcome;
  readonly outcome?: Outcome;
  readonly subject?: SubjectOutcome;
}

type Endpoint = ClaimedLane['endpoint'];

/** What a lane needs of its process. */
export interface LaneServices {
  readonly budget: TryBudget;
  readonly times: RetryTimes;
  /** Reads what is due. @returns the version of the endpoint; null where it is gone or disabled. */
  readonly due: (key: LaneKey, limits: LaneLimits, except: readonly string[]) => Promise<DuePage>;
  readonly endpoint: (id: string) => Promise<Endpoint | undefined>;
  /** Sends a message once. Never rejects; undefined where the process stops meanwhile. */
  readonly send: (message: MessageToSend) => Promise<TryResult | undefined>;
  /** Makes the bodies of deliveries, by their ids. */
  readonly bodies: (endpoint: Endpoint, subjects: readonly DueSubject[]) => Promise<ReadonlyMap<string, Buffer>>;
  /** Writes what came of a try. @returns whether the lease was still held. */
  readonly write: (written: Written) => Promise<boolean>;
  /** @returns whether it is released; false where something was added meanwhile. */
  readonly release: (key: LaneKey) => Promise<boolean>;
  readonly noteHealth: (webhook: string, isFailing: boolean) => Promise<void>;
  readonly disable: (endpoint: Endpoint, because: 'gone' | 'failing') => Promise<void>;
  readonly failed: (what: string, error: unknown) => void;
  readonly ended: (run: LaneRun) => void;
  /** The most that a lane reads ahead, which depends on how many there are. */
  readonly limits: () => LaneLimits;
}

export interface LaneLimits {
  /** Deliveries of all subjects. */
  readonly all: number;
  /** Deliveries of one subject. */
  readonly subject: number;
}

export interface MessageToSend {
  readonly endpoint: Endpoint;
  readonly lane: Lane;
  readonly delivery: WaitingDelivery;
  readonly body: Buffer;
  readonly slow: () => void;
  /** Whether the endpoint has answered in time and without a failure so far. */
  readonly isSteady: boolean;
}

/** A subject that was read, until what came of it is written. */
interface SubjectRun extends DueSubject {
  readonly bodies: ReadonlyMap<string, Buffer>;
}

/** Tries of an endpoint that may be under way at once; those of replays and requests leave some to live messages. */
const concurrency: Readonly<Record<Lane, number>> = { live: 8, replay: 6, requested: 7 };
const ofEndpoint = 8;
/** Milliseconds for which a lane is kept when nothing waits, since the next event often follows. */
const idleMs = 250;
/** Subjects that are ready below which more are read, so that none waits for PostgreSQL meanwhile. */
const readBelow = 24;
/** How often a success is noted anew in the time of nothing but failures after which an endpoint is disabled. */
const notesOfSuccess = 100;
/** Milliseconds until a read is repeated that has failed. */
const againMs = 1_000;
/** Milliseconds until a message is tried again that could not be made. */
const unmadeMs = 3_600_000;

/**
 * Works on one lane while this process holds its lease: reads what is due page by page, and tries the subjects side by
 * side, the deliveries of each one after the other. It ends when nothing is due, when the lane is paused, when the
 * endpoint is disabled, and when the lease is lost.
 */
export class LaneRun {
  readonly key: LaneKey;
  /** The end of the lease, in milliseconds of the monotonic clock. */
  leaseEnd: number;
  readonly begunAt = performance.now();
  private endpoint: Endpoint;
  private failures: number;
  /** Subjects that were read and whose outcome is not written yet. */
  private readonly subjects = new Map<string, SubjectRun>();
  private ready: SubjectRun[] = [];
  private underWay = 0;
  private isReading = false;
  /** Whether something may be due that was not read. */
  private mayBeMore = true;
  /** Whether something was added while subjects were under way, which a read leaves out. */
  private isAddedMeanwhile = false;
  private isClosing = false;
  private isLost = false;
  private isReleasing = false;
  private hasEnded = false;
  private idle: NodeJS.Timeout | undefined;
  private pausedUntil = 0;
  /** When the last failure ended, by the monotonic clock. */
  private failedAt = 0;
  private isNotedFailing: boolean;
  /** When it was last noted, by the monotonic clock. */
  private notedAt = performance.now();
  private readonly pumpAgain = () => this.pump();

  constructor(
    { endpoint, failures, ...key }: ClaimedLane,
    leaseEnd: number,
    private readonly state: EndpointState,
    private readonly services: LaneServices,
  ) {
    this.key = key;
    this.endpoint = endpoint;
    this.failures = failures;
    this.leaseEnd = leaseEnd;
    this.isNotedFailing = endpoint.failingSince !== null;
  }

  /** Which of the lanes that a process holds it counts among. */
  get health(): LaneHealth {
    return healthOf(this.failures);
  }

  /** Reads what is due: something was added. */
  wake(): void {
    this.mayBeMore = true;
    if (this.subjects.size > 0) this.isAddedMeanwhile = true;
    this.pump();
  }

  /** Begins no more tries, and gives the lane back when the running ones have ended. */
  close(): void {
    this.isClosing = true;
    this.pump();
  }

  /** Begins no more tries: another process may have the lane. */
  lose(): void {
    this.isLost = true;
    this.pump();
  }

  pump(): void {
    if (this.hasEnded || this.isReleasing) return;
    clearTimeout(this.idle);
    if (performance.now() >= this.leaseEnd) this.isLost = true;
    if (this.isClosing || this.isLost) this.drop();
    while (this.ready.length > 0 && this.mayBegin()) {
      const place = this.services.budget.take(this.kind, this.state.underWay > 0, this.pumpAgain);
      if (!place) return;
      void this.tryFirst(this.ready.shift()!, place);
    }
    if (this.underWay > 0 || this.isReading) {
      if (this.ready.length < readBelow) this.readMore();
      return;
    }
    if (this.ready.length > 0) return;
    if (this.isLost) return this.end();
    if (this.isClosing) {
      if (this.subjects.size === 0) void this.release();
      return;
    }
    if (this.mayBeMore) this.readMore();
    else if (this.subjects.size === 0) this.idle = setTimeout(() => void this.release(), idleMs);
  }

  /** A failure that comes at once costs a place for a moment only, and may be the only one. */
  private get kind(): TryKind {
    if (this.health === 'down') return 'down';
    return this.state.isSlow ? 'troubled' : 'steady';
  }

  private mayBegin(): boolean {
    const { state, key } = this;
    const most = this.failures > 0 || !state.isProven ? 1 : concurrency[key.lane];
    if (this.underWay >= most) return false;
    if (state.underWay < ofEndpoint) return true;
    state.waiting.add(this.pumpAgain);
    return false;
  }

  private readMore(): void {
    if (!this.mayBeMore || this.isReading || this.isClosing || this.isLost) return;
    this.isReading = true;
    this.mayBeMore = false;
    this.read().then(
      () => {
        this.isReading = false;
        this.pump();
      },
      (error: unknown) => {
        this.services.failed('what is due could not be read', error);
        setTimeout(() => {
          this.isReading = false;
          this.mayBeMore = true;
          this.pump();
        }, againMs);
      },
    );
  }

  private async read(): Promise<void> {
    const { services, key } = this;
    const { version, subjects, isFull } = await services.due(key, services.limits(), [...this.subjects.keys()]);
    if (subjects.length === 0) return;
    if (version !== this.endpoint.version) {
      const changed = version === null ? undefined : await services.endpoint(key.webhook);
      if (!changed) {
        this.isClosing = true;
        return;
      }
      this.endpoint = changed;
      this.failures = 0;
      this.pausedUntil = 0;
      this.state.isProven = false;
      this.isNotedFailing = changed.failingSince !== null;
    }
    const bodies = await services.bodies(this.endpoint, subjects);
    for (const subject of subjects) {
      const run = { ...subject, bodies };
      this.subjects.set(subject.subject, run);
      if (subject.deliveries.length > 0) this.ready.push(run);
      else this.finish(run, undefined);
    }
    if (isFull) this.mayBeMore = true;
  }

  private async tryFirst(subject: SubjectRun, place: { becomeSlow(): void; free(): void }): Promise<void> {
    const delivery = subject.deliveries[0]!;
    const body = subject.bodies.get(delivery.id);
    if (!body) {
      place.free();
      this.services.failed('a message could not be made, and a newer release may be able to', delivery.message);
      return this.finish(subject, unmadeMs);
    }
    const { state } = this;
    const isSteady = this.kind === 'steady' && this.failures === 0;
    this.underWay++;
    state.underWay++;
    const slow = () => {
      state.isSlow = true;
      place.becomeSlow();
    };
    const { endpoint } = this;
    let isSlow = false;
    const result = await this.services.send({
      endpoint,
      lane: this.key.lane,
      delivery,
      body,
      isSteady,
      slow: () => ((isSlow = true), slow()),
    });
    this.underWay--;
    state.underWay--;
    place.free();
    if (result) {
      state.isSlow = isSlow;
      state.isProven = result.isSuccess;
      this.settle(subject, endpoint, result);
    } else {
      this.forget(subject);
      // Nothing can be sent: whoever claims the lane when its lease has ended tries again.
      if (!this.isClosing) this.isLost = true;
    }
    this.pump();
    for (const waiting of [...state.waiting]) {
      if (state.underWay >= ofEndpoint) break;
      state.waiting.delete(waiting);
      waiting();
    }
  }

  /** Notes what came of the first delivery of a subject, and what follows. */
  private settle(subject: SubjectRun, endpoint: Endpoint, result: TryResult): void {
    const delivery = subject.deliveries[0]!;
    const tries = delivery.tries + 1;
    const { isSuccess, status, durationMs, response, error, retryAfterMs } = result;
    const waits = isSuccess ? undefined : waitMs(this.services.times, tries, retryAfterMs);
    if (isSuccess) {
      this.failures = 0;
      this.pausedUntil = 0;
    } else {
      // Those that were under way together have failed for one reason.
      if (performance.now() - durationMs >= this.failedAt) this.failures++;
      this.failedAt = performance.now();
      this.pauseAfter(status, retryAfterMs);
    }
    const outcome: Outcome = {
      key: this.key,
      id: delivery.id,
      status: isSuccess ? 'delivered' : waits === undefined ? 'failed' : 'waiting',
      tries,
      durationMs,
      responseStatus: status,
      response,
      error,
    };
    if (isSuccess === this.isNotedFailing || (isSuccess && this.isNotedLongAgo)) this.noteHealth(!isSuccess);
    const next = waits === undefined && subject.deliveries.length > 1;
    if (next) {
      subject.deliveries.shift();
      // It goes on behind those that wait already.
      this.ready.push(subject);
      void this.write({ lane: this.lane(), outcome });
    } else this.finish(subject, waits ?? (subject.more ? 0 : undefined), outcome);
    if (isSuccess) return;
    if (status === 410) this.disable(endpoint, 'gone');
    else if (this.isFailingSince(endpoint)) this.disable(endpoint, 'failing');
  }

  /** A lane of what customers ask for is not paused, and neither is one that was asked for a pause by nobody. */
  private pauseAfter(status: number | null, retryAfterMs: number | undefined): void {
    if (this.key.lane === 'requested') return;
    const { failuresBeforePause, pause, retryAfterMs: most } = this.services.times;
    const asked = status === 429 || status === 503 ? Math.min(retryAfterMs ?? 0, most) : 0;
    const grown = this.failures >= failuresBeforePause ? backOffMs(pause, this.failures - failuresBeforePause + 1) : 0;
    const pausedMs = Math.max(asked, grown);
    if (pausedMs === 0) return;
    this.pausedUntil = Math.max(this.pausedUntil, performance.now() + pausedMs);
    this.isClosing = true;
  }

  private isFailingSince({ failingSince }: Endpoint): boolean {
    return failingSince !== null && Date.now() - failingSince.getTime() >= this.services.times.disableAfterMs;
  }

  /** Writes that a subject is done, or when it is tried next, and has it read anew then. */
  private finish(subject: SubjectRun, nextInMs: number | undefined, outcome?: Outcome): void {
    const { subject: name, additions } = subject;
    const written = { key: this.key, subject: name, additions, nextInMs };
    void this.write({ lane: this.lane(), ...(outcome && { outcome }), subject: written }).then(() => {
      this.forget(subject);
      if (nextInMs === 0 || this.isAddedMeanwhile) this.mayBeMore = true;
      if (this.subjects.size === 0) this.isAddedMeanwhile = false;
      this.pump();
    });
  }

  private forget({ subject }: SubjectRun): void {
    this.subjects.delete(subject);
  }

  private lane(): LaneOutcome {
    const pausedMs = this.pausedUntil - performance.now();
    return { key: this.key, failures: this.failures, pausedMs: pausedMs > 0 ? pausedMs : undefined };
  }

  private async write(written: Written): Promise<void> {
    try {
      if (!(await this.services.write(written))) this.isLost = true;
    } catch (error) {
      this.services.failed('what came of a try could not be written, and it will be made again', error);
      this.isLost = true;
    }
  }

  /** Another lane may have noted a failure since, which is not the first after the last success. */
  private get isNotedLongAgo(): boolean {
    return performance.now() - this.notedAt > this.services.times.disableAfterMs / notesOfSuccess;
  }

  private noteHealth(isFailing: boolean): void {
    this.isNotedFailing = isFailing;
    this.notedAt = performance.now();
    this.services.noteHealth(this.key.webhook, isFailing).catch((error: unknown) => {
      this.isNotedFailing = !isFailing;
      this.services.failed('how an endpoint does could not be noted', error);
    });
  }

  private disable(endpoint: Endpoint, because: 'gone' | 'failing'): void {
    this.isClosing = true;
    this.services
      .disable(endpoint, because)
      .catch((error: unknown) => this.services.failed('an endpoint could not be disabled', error));
  }

  /** Forgets what was read and not begun; it stays on its queue. */
  private drop(): void {
    for (const subject of this.ready) this.forget(subject);
    this.ready = [];
  }

  private async release(): Promise<void> {
    this.isReleasing = true;
    try {
      const isReleased = await this.services.release(this.key);
      this.isReleasing = false;
      if (isReleased || this.isLost) return this.end();
      // A lane that closes is given back with what was added.
      this.mayBeMore = true;
      this.pump();
    } catch (error) {
      this.services.failed('a lane could not be given back, and is free when its lease ends', error);
      this.isReleasing = false;
      this.end();
    }
  }

  private end(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    clearTimeout(this.idle);
    this.state.waiting.delete(this.pumpAgain);
    this.services.ended(this);
  }
}
