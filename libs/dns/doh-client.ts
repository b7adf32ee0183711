import { connect, constants, type ClientHttp2Session } from 'node:http2';
import {
  decodeReply,
  encodeQuery,
  isQueryable,
  unreachable,
  type DnsAnswer,
  type MxRecord,
  type QueryType,
  type readers,
} from './dns-message';

export interface DohOptions {
  /** `https://…` speaks HTTP/2 by ALPN, `http://…` by prior knowledge. */
  readonly url: string;
  /** A query that takes longer was not answered, in milliseconds; 5,000 when absent. */
  readonly timeoutMs?: number;
  /** Connections kept; 2 when absent. */
  readonly sessions?: number;
  /** Queries under way on one connection; others wait. 100 when absent. */
  readonly streams?: number;
}

type Reply<Type extends QueryType> = DnsAnswer<ReturnType<(typeof readers)[Type]>>;

/** The longest message that is read (RFC 1035 section 4.2.2), in octets. */
const messageLimit = 65_535;

interface Connection {
  readonly session: ClientHttp2Session;
  streams: number;
  heardAt: number;
}

/**
 * DNS over HTTPS (RFC 8484) by GET over HTTP/2. Whatever goes wrong on the way is an answer too (`unreachable`, with the
 * reason); nothing is thrown. Believes only a whole, matching message with status 200.
 */
export class DohClient {
  private readonly origin: string;
  private readonly path: string;
  private readonly timeoutMs: number;
  private readonly streams: number;
  private readonly connections: (Connection | undefined)[];
  private readonly waiting: (() => void)[] = [];
  private underWay = 0;
  private next = 0;
  private closed = false;

  constructor({ url, timeoutMs = 5_000, sessions = 2, streams = 100 }: DohOptions) {
    const { origin, pathname, search } = new URL(url);
    this.origin = origin;
    this.path = `${pathname}${search}${search ? '&' : '?'}dns=`;
    this.timeoutMs = timeoutMs;
    this.streams = streams;
    this.connections = Array.from({ length: sessions });
  }

  mx(name: string): Promise<DnsAnswer<MxRecord>> {
    return this.query(name, 'MX');
  }

  /** Each record is its concatenated character-strings, a character a byte. */
  txt(name: string): Promise<DnsAnswer<string>> {
    return this.query(name, 'TXT');
  }

  /** Queries under way end as `unreachable`. */
  close(): void {
    this.closed = true;
    for (const connection of this.connections) connection?.session.destroy();
    for (const turn of this.waiting.splice(0)) turn();
  }

  private async query<Type extends QueryType>(name: string, type: Type): Promise<Reply<Type>> {
    if (!isQueryable(name)) return unreachable(`${name} cannot be asked for`);
    const path = this.path + encodeQuery(name, type).toString('base64url');
    if (this.underWay >= this.streams * this.connections.length)
      await new Promise<void>((turn) => this.waiting.push(turn));
    this.underWay++;
    try {
      const first = await this.send(path);
      // A GET can be repeated: the server may have closed an idle connection at the moment we took it.
      const reply = first === 'gone' ? await this.send(path) : first;
      if (reply === 'gone') return unreachable('the connection was closed');
      return Buffer.isBuffer(reply) ? decodeReply(reply, name, type) : unreachable(reply.reason);
    } finally {
      this.underWay--;
      this.waiting.shift()?.();
    }
  }

  /** The body of a reply that counts; `gone` when the connection went away before any of it came. */
  private send(path: string): Promise<Buffer | { reason: string } | 'gone'> {
    if (this.closed) return Promise.resolve({ reason: 'the client is closed' });
    const connection = this.connection();
    return new Promise((resolve) => {
      let stream: ReturnType<ClientHttp2Session['request']>;
      try {
        stream = connection.session.request({ ':path': path, accept: 'application/dns-message' });
      } catch {
        this.drop(connection);
        return resolve('gone');
      }
      connection.streams++;
      let failure: string | undefined;
      let lost = true;
      let length = 0;
      let expected: number | undefined;
      const chunks: Buffer[] = [];
      const refuse = (reason: string) => {
        failure ??= reason;
        stream.close(constants.NGHTTP2_CANCEL);
      };
      const timer = setTimeout(() => {
        lost = false;
        refuse(`no answer within ${this.timeoutMs} ms`);
        // Silence on all of it means that the peer is gone without a word.
        if (performance.now() - connection.heardAt > this.timeoutMs) this.drop(connection);
      }, this.timeoutMs);
      stream.on('response', (headers) => {
        lost = false;
        connection.heardAt = performance.now();
        const type = String(headers['content-type'] ?? 'none')
          .split(';', 1)[0]!
          .trim()
          .toLowerCase();
        if (headers[':status'] !== 200) refuse(`status ${headers[':status']}`);
        else if (type !== 'application/dns-message') refuse(`content type ${type}`);
        else if (headers['content-length'] !== undefined) expected = Number(headers['content-length']);
      });
      stream.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        length += chunk.length;
        if (length > messageLimit) refuse(`more than ${messageLimit} octets`);
      });
      let ended = false;
      stream.on('end', () => (ended = true));
      stream.on('error', (error: Error) => (failure ??= error.message));
      stream.once('close', () => {
        clearTimeout(timer);
        connection.streams--;
        if (lost) return resolve('gone');
        if (failure === undefined && (!ended || stream.rstCode !== constants.NGHTTP2_NO_ERROR))
          failure = 'an answer that broke off';
        if (failure === undefined && expected !== undefined && expected !== length)
          failure = 'an answer that broke off';
        resolve(failure === undefined ? Buffer.concat(chunks) : { reason: failure });
      });
      stream.end();
    });
  }

  /** Round robin over the connections, each opened when it is first needed or was lost. */
  private connection(): Connection {
    const slot = this.next++ % this.connections.length;
    const existing = this.connections[slot];
    if (existing && !existing.session.closed && !existing.session.destroyed) return existing;
    const session = connect(this.origin);
    const connection: Connection = { session, streams: 0, heardAt: performance.now() };
    this.connections[slot] = connection;
    const forget = () => {
      if (this.connections[slot] === connection) this.connections[slot] = undefined;
    };
    session.on('goaway', forget);
    session.on('close', forget);
    // The streams report it, each as its own answer.
    session.on('error', forget);
    session.setMaxListeners(0);
    session.unref();
    return connection;
  }

  private drop(connection: Connection): void {
    const slot = this.connections.indexOf(connection);
    if (slot >= 0) this.connections[slot] = undefined;
    connection.session.destroy();
  }
}
