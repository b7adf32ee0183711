import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import { Client, type Dispatcher } from 'undici';
import { checkedUrl, TargetRefused } from '@app/webhooks';
import { pinnedConnector, type PinnedConnectorOptions } from './pinned-connector';
import { retryAfterOf } from './retry-times';

/** What came of a try. */
export interface TryResult {
  readonly isSuccess: boolean;
  /** Null where no answer came. */
  readonly status: number | null;
  readonly durationMs: number;
  /** The first KiB of the answer; null where none came. */
  readonly response: Buffer | null;
  /** Why it failed, in a sentence for the customer. */
  readonly error: string | null;
  /** Milliseconds that the endpoint wants to be left alone. */
  readonly retryAfterMs?: number | undefined;
}

/** A message as it is sent. */
export interface Request {
  readonly webhook: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Called once when it takes long. */
  readonly slow?: () => void;
}

export interface EndpointClientOptions extends PinnedConnectorOptions {
  /** Milliseconds for look-up, connection, TLS and the whole answer; 15,000 when absent. */
  readonly timeoutMs?: number;
  /** Milliseconds after which a try is slow; 1,000 when absent. */
  readonly slowMs?: number;
  /** Endpoints whose connections are kept; 1,000 when absent. */
  readonly endpoints?: number;
}

/** Octets of the head of an answer, and of what is read of its body. */
const headLimit = 16_384;
const bodyLimit = 65_536;
/**
 * Octets of an answer in all. What has neither a bound of its own nor a place in the head or the body, such as a reason
 * phrase or the extension of a chunk (RFC 9112 sections 4 and 7.1.1), is read as fast as it is sent.
 */
const answerLimit = 1_048_576;
/** Octets of an answer that are kept. */
const keptOctets = 1_024;
/** Interim answers (RFC 9110 section 15.2) before the answer. */
const interimLimit = 16;
/** Milliseconds for which an idle connection is kept. */
const idleMs = 30_000;
/** Milliseconds after which a connection is replaced, so that a change in the DNS is followed. */
const reconnectMs = 300_000;

/** The connection was closed, perhaps just when the request was sent. */
const closings = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

/**
 * Posts messages over HTTP/1.1, on connections that are kept for each endpoint. Follows no redirect, knows no proxy,
 * decodes no body, and reads at most 16 KiB of head and 64 KiB of body.
 */
export class EndpointClient {
  private readonly options: Required<Pick<EndpointClientOptions, 'timeoutMs' | 'slowMs' | 'endpoints'>> &
    EndpointClientOptions;
  /** The connections of each endpoint, by its id; the endpoint that was used last is at the end. */
  private readonly kept = new Map<string, Kept>();
  private readonly connections = new Set<Connection>();

  constructor(options: EndpointClientOptions) {
    this.options = { timeoutMs: 15_000, slowMs: 1_000, endpoints: 1_000, ...options };
  }

  /** Sends a message once. Never rejects. */
  async send(request: Request): Promise<TryResult> {
    const begun = performance.now();
    let kept: Kept;
    try {
      kept = this.keptOf(request);
    } catch (error) {
      return failed(begun, wordsOf(error, this.options.timeoutMs));
    }
    const idle = kept.idle.pop();
    if (idle && begun - idle.since < reconnectMs) {
      const { result, wasClosed } = await this.attempt(idle, kept, request, begun);
      // An endpoint may close a kept connection just when a request is sent on it; a message may arrive twice.
      if (!wasClosed) return result;
    } else if (idle) this.destroy(idle);
    return (await this.attempt(this.connect(kept), kept, request, begun)).result;
  }

  /** Ends the idle connections of an endpoint. */
  forget(webhook: string): void {
    const kept = this.kept.get(webhook);
    this.kept.delete(webhook);
    for (const connection of kept?.idle.splice(0) ?? []) this.destroy(connection);
  }

  /** Ends all connections; what is under way fails. */
  async close(): Promise<void> {
    this.kept.clear();
    await Promise.all([...this.connections].map(({ client }) => client.destroy()));
    this.connections.clear();
  }

  /** Sends a request on a connection, and keeps that one if the answer was complete. */
  private async attempt(
    connection: Connection,
    kept: Kept,
    { webhook, headers, body, slow }: Request,
    begun: number,
  ): Promise<{ result: TryResult; wasClosed: boolean }> {
    const { timeoutMs, slowMs } = this.options;
    const { path } = kept;
    connection.readBefore = connection.socket?.bytesRead ?? 0;
    const outcome = await new Promise<Settled>((resolve) => {
      const attempt = new Attempt(begun, { timeoutMs, slowMs, slow }, resolve);
      connection.client.dispatch({ path, method: 'POST', headers, body, headersTimeout: 0, bodyTimeout: 0 }, attempt);
    });
    // undici connects anew for a request that is aborted, so that a connection is given up as a whole.
    if (outcome.isComplete && this.kept.get(webhook) === kept) kept.idle.push(connection);
    else this.destroy(connection);
    return outcome;
  }

  private connect({ origin }: Kept): Connection {
    const connector = pinnedConnector(this.options);
    const client = new Client(origin, {
      connect: (to, done) =>
        connector(to, (...made) => {
          if (made[1]) limitAnswers(connection, made[1]);
          done(...made);
        }),
      pipelining: 1,
      maxHeaderSize: headLimit,
      keepAliveTimeout: idleMs,
      keepAliveMaxTimeout: idleMs,
    });
    const connection: Connection = { client, since: performance.now(), readBefore: 0 };
    this.connections.add(connection);
    return connection;
  }

  private destroy(connection: Connection): void {
    this.connections.delete(connection);
    void connection.client.destroy();
  }

  /** @throws {TargetRefused} */
  private keptOf({ webhook, url }: Request): Kept {
    const known = this.kept.get(webhook);
    if (known?.url === url) {
      this.kept.delete(webhook);
      this.kept.set(webhook, known);
      return known;
    }
    this.forget(webhook);
    const { origin, pathname, search } = checkedUrl(url, this.options);
    const kept: Kept = { url, origin, path: pathname + search, idle: [] };
    this.kept.set(webhook, kept);
    for (const oldest of this.kept.keys()) {
      if (this.kept.size <= this.options.endpoints) break;
      this.forget(oldest);
    }
    return kept;
  }
}

/** What is kept of an endpoint. */
interface Kept {
  readonly url: string;
  readonly origin: string;
  readonly path: string;
  /** Its idle connections, the one that was used last at the end. */
  readonly idle: Connection[];
}

/** A client of undici has one connection, and opens it again where it was closed while it was idle. */
interface Connection {
  readonly client: Client;
  /** The time at which it was opened, in milliseconds of the monotonic clock. */
  readonly since: number;
  /** The one that is open, or was last. */
  socket?: Socket;
  /** Octets that were read on it before the request that is under way. */
  readBefore: number;
}

/** Cuts a connection on which an answer has more octets than are read. */
function limitAnswers(connection: Connection, socket: Socket): void {
  connection.socket = socket;
  connection.readBefore = 0;
  socket.on('readable', () => {
    if (socket.bytesRead - connection.readBefore > answerLimit) socket.destroy(new AnswerTooLong());
  });
}

class AnswerTooLong extends Error {
  readonly code = 'ANSWER_TOO_LONG';
}

interface Settled {
  readonly result: TryResult;
  /** Whether the connection was closed before any answer. */
  readonly wasClosed: boolean;
  /** Whether the answer was read to its end. */
  readonly isComplete: boolean;
}

/** One request and its answer, as undici tells of them. */
class Attempt implements Dispatcher.DispatchHandler {
  private timer: NodeJS.Timeout;
  private status: number | undefined;
  private retryAfter: string | undefined;
  private response = Buffer.alloc(0);
  private octets = 0;
  private interims = 0;
  private isSettled = false;

  /** @param settled is called once. */
  constructor(
    private readonly begun: number,
    private readonly times: { timeoutMs: number; slowMs: number; slow: (() => void) | undefined },
    private readonly settled: (outcome: Settled) => void,
  ) {
    this.timer = setTimeout(() => this.becomeSlow(), times.slowMs - (performance.now() - begun));
  }

  onRequestStart(): void {
    // Tells undici that this handler is of the present kind.
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) {
      if (++this.interims > interimLimit) this.fail(`It sent more than ${interimLimit} interim answers.`);
      return;
    }
    this.status = status;
    // Repeated, it is a list, of which nothing is meant.
    this.retryAfter = headers['retry-after'];
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.isSettled) return;
    if (this.response.length < keptOctets)
      this.response = Buffer.concat([this.response, chunk]).subarray(0, keptOctets);
    this.octets += chunk.length;
    if (this.octets > bodyLimit) this.answered(false);
  }

  onResponseEnd(): void {
    this.answered(true);
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    const { code } = error as NodeJS.ErrnoException;
    const wasClosed = this.status === undefined && code !== undefined && closings.has(code);
    this.settle(failed(this.begun, wordsOf(error, this.times.timeoutMs), this.status, this.kept()), { wasClosed });
  }

  private becomeSlow(): void {
    this.timer = setTimeout(
      () => this.fail(`It gave no complete answer within ${this.times.timeoutMs / 1_000} seconds.`),
      this.times.timeoutMs - (performance.now() - this.begun),
    );
    this.times.slow?.();
  }

  /** @param isComplete whether the body was read to its end. */
  private answered(isComplete: boolean): void {
    const status = this.status!;
    const isSuccess = status >= 200 && status < 300;
    const isRedirect = status >= 300 && status < 400;
    this.settle(
      {
        isSuccess,
        status,
        durationMs: performance.now() - this.begun,
        response: this.kept(),
        error: isSuccess ? null : `It answered ${status}${isRedirect ? ', and redirects are not followed' : ''}.`,
        retryAfterMs: isSuccess ? undefined : retryAfterOf(this.retryAfter),
      },
      { isComplete },
    );
  }

  private fail(error: string): void {
    this.settle(failed(this.begun, error, this.status, this.kept()));
  }

  private kept(): Buffer | null {
    return this.status === undefined ? null : this.response;
  }

  private settle(result: TryResult, { wasClosed = false, isComplete = false }: Partial<Settled> = {}): void {
    if (this.isSettled) return;
    this.isSettled = true;
    clearTimeout(this.timer);
    this.settled({ result, wasClosed, isComplete });
  }
}

const failed = (begun: number, error: string, status?: number, response: Buffer | null = null): TryResult => ({
  isSuccess: false,
  status: status ?? null,
  durationMs: performance.now() - begun,
  response,
  error,
});

const notHttp = 'Its answer is no HTTP/1.1.';

const known: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'It refused the connection.',
  ECONNRESET: 'It closed the connection without an answer.',
  EPIPE: 'It closed the connection without an answer.',
  UND_ERR_SOCKET: 'It closed the connection without a complete answer.',
  EHOSTUNREACH: 'It cannot be reached.',
  ENETUNREACH: 'It cannot be reached.',
  ETIMEDOUT: 'It did not take the connection in time.',
  UND_ERR_HEADERS_OVERFLOW: `The head of its answer has more than ${headLimit / 1_024} KiB.`,
  ANSWER_TOO_LONG: `Its answer has more than ${answerLimit / 1_048_576} MiB.`,
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'The content-length of its answer is wrong.',
  ERR_ASSERTION: notHttp,
  CERT_HAS_EXPIRED: 'Its certificate has expired.',
  CERT_NOT_YET_VALID: 'Its certificate is not valid yet.',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'Its certificate is self-signed.',
  SELF_SIGNED_CERT_IN_CHAIN: 'Its certificate is signed by an authority that is not trusted.',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'Its certificate is signed by an authority that is not trusted, or its chain lacks one.',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'Its certificate is signed by an authority that is not trusted.',
  ERR_TLS_CERT_ALTNAME_INVALID: 'Its certificate is for another name.',
};

/** Gives a sentence for the customer, who knows nothing of our libraries. */
function wordsOf(error: unknown, timeoutMs: number): string {
  if (error instanceof TargetRefused) return error.message;
  const { name, code, message, errors } = error as NodeJS.ErrnoException & { errors?: Error[] };
  if (errors?.[0]) return wordsOf(errors[0], timeoutMs);
  if (code !== undefined && known[code]) return known[code];
  if (message.startsWith('no connection within'))
    return `It did not take the connection within ${timeoutMs / 1_000} seconds.`;
  if (code?.startsWith('HPE_') || name === 'HTTPParserError') return notHttp;
  // eslint-disable-next-line no-control-regex -- what OpenSSL says may quote the other side
  return `The connection failed: ${message.replace(/[\x00-\x1f\x7f]+/g, ' ').slice(0, 200)}`;
}
