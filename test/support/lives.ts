import { setTimeout as delay } from 'node:timers/promises';

/** A gateway that takes requests, until its process has ended. */
export interface Door {
  readonly url: string;
  /** Whether it was told to end: it may then refuse, and the request goes to another one. */
  isEnding: boolean;
}

interface Answered {
  readonly status: number;
  /** Whether an earlier try may have done it already. */
  readonly isRepeated: boolean;
  readonly body: { readonly data?: { readonly id: string; readonly domain: string; readonly dns_records: unknown } };
}

/** Most lives at a time: on a slow machine there are fewer a second, and the system is not flooded. */
const mostAtOnce = 16;

/** Milliseconds for which a request is repeated. */
const patienceMs = 120_000;

/**
 * Lives of domains under way: each is added and read, some are verified or found in a list, and every second one is
 * deleted. Requests go to all gateways in turn, as those of a load balancer that does not know which of them ends.
 */
export class Lives {
  readonly doors: Door[] = [];
  /** The answers by operation and status, and the requests that were repeated. */
  readonly counts = new Map<string, number>();
  /** The answers that no client should get. */
  readonly faults: string[] = [];
  /** What was answered for each domain that was added, by its id. */
  readonly added = new Map<string, Answered['body']['data']>();
  readonly deleted = new Set<string>();
  private readonly underWay = new Set<Promise<void>>();
  private timer: NodeJS.Timeout | undefined;
  private turn = 0;
  private begun = 0;

  constructor(private readonly key: string) {}

  /** @param rate lives that begin in a second. */
  begin(rate: number): void {
    this.timer = setInterval(() => {
      if (this.underWay.size >= mostAtOnce) return this.count('life that was put off, since many are under way');
      const life = this.live(this.begun++).catch((error: unknown) => void this.faults.push(String(error)));
      this.underWay.add(life);
      void life.finally(() => this.underWay.delete(life));
    }, 1_000 / rate);
  }

  /** Begins no more lives, and waits for the end of those under way. */
  async end(): Promise<void> {
    clearInterval(this.timer);
    await Promise.all(this.underWay);
  }

  get(id: string): Promise<Answered> {
    return this.ask('get', 'GET', `/domains/${id}`);
  }

  private async live(number: number): Promise<void> {
    const name = `d${number}.acme.com`;
    const { data } = (await this.expect(201, 'add', 'POST', '/domains', { domain: name })).body;
    const { id } = data!;
    this.added.set(id, data);
    await this.expect(200, 'get', 'GET', `/domains/${id}`);
    if (number % 4 === 0) await this.expect(200, 'verify', 'POST', `/domains/${id}/verify`);
    if (number % 4 === 1) await this.expect(200, 'list', 'GET', '/domains?limit=5');
    if (number % 2 === 1) return;
    await this.expect(200, 'delete', 'DELETE', `/domains/${id}`);
    this.deleted.add(id);
  }

  private async expect(status: number, ...[operation, ...request]: Parameters<Lives['ask']>): Promise<Answered> {
    const answer = await this.ask(operation, ...request);
    this.count(`${operation} ${answer.status}`);
    // What was deleted at the first try is not there at the second.
    const isDone = operation === 'delete' && answer.isRepeated && answer.status === 404;
    if (answer.status === status || isDone) return answer;
    throw new Error(`${operation} ${request[1]}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  /** Asks a gateway, and another one where it ends; a 503 with `Retry-After` is repeated, and counted. */
  private async ask(operation: string, method: string, path: string, request?: unknown): Promise<Answered> {
    const idempotencyKey = `key-${this.begun}-${Math.random()}`;
    let isRepeated = false;
    const attempt = async (door: Door): Promise<Answered & { readonly isRefused: boolean }> => {
      const response = await fetch(`${door.url}/api/v1${path}`, {
        method,
        headers: {
          authorization: `Bearer ${this.key}`,
          ...(request !== undefined && { 'content-type': 'application/json', 'idempotency-key': idempotencyKey }),
        },
        body: request === undefined ? undefined : JSON.stringify(request),
      });
      const { status, headers } = response;
      const body = (await response.json()) as Answered['body'];
      return { status, body, isRepeated, isRefused: status === 503 && headers.has('retry-after') };
    };
    let refused: Door | undefined;
    for (const deadline = Date.now() + patienceMs; ;) {
      const door = this.next(refused);
      try {
        const answer = await attempt(door);
        if (!answer.isRefused || Date.now() > deadline) return answer;
        // A deletion that takes long goes on by itself, and the same request waits for it again.
        const who = door.isEnding
          ? 'a gateway that ends'
          : operation === 'delete'
            ? 'a deletion'
            : 'a gateway that stays';
        this.count(`repeated: 503 with Retry-After of ${who}`);
        await delay(1_000);
      } catch (error) {
        if (!door.isEnding) throw new Error(`${operation} ${path}: ${reasonOf(error)}`, { cause: error });
        this.count('repeated: connection refused or closed by a gateway that ends');
      }
      isRepeated = true;
      refused = door.isEnding ? door : undefined;
    }
  }

  private next(not?: Door): Door {
    const open = this.doors.filter((door) => door !== not);
    return open[this.turn++ % open.length]!;
  }

  private count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }
}

const reasonOf = (error: unknown): string => {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
};
