import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import {
  decodeReply,
  encodeQuery,
  isQueryable,
  unreachable,
  type DnsAnswer,
  type MxRecord,
  type QueryType,
  type readers,
  type SoaRecord,
} from './dns-message';

export interface DohOptions {
  /** `https://…` speaks HTTP/2 by ALPN, `http://…` by prior knowledge. */
  readonly url: string;
  /** A query that takes longer, from its turn on, was not answered, in milliseconds; 5,000 when absent. */
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
  /** Queries under way on it. */
  streams: number;
  /** When it was opened, or its last answer came, by `performance.now()`. */
  heardAt: number;
}

type Outcome =
  | { readonly body: Buffer }
  /** An answer that does not count, or none in time. */
  | { readonly refused: string }
  /** The connection went away before any of an answer came. */
  | { readonly lost: string };

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
  /** Questions that have no answer yet: who asks one of them again shares the answer. */
  private readonly questions = new Map<string, Promise<DnsAnswer<unknown>>>();
  private readonly waiting: (() => void)[] = [];
  private underWay = 0;
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

  /** IPv4 addresses. */
  a(name: string): Promise<DnsAnswer<string>> {
    return this.query(name, 'A');
  }

  /** IPv6 addresses. */
  aaaa(name: string): Promise<DnsAnswer<string>> {
    return this.query(name, 'AAAA');
  }

  /** The CNAME at the name itself, not followed. */
  cname(name: string): Promise<DnsAnswer<string>> {
    return this.query(name, 'CNAME');
  }

  /** Answered with a record, without aliases, at the top of a zone only. */
  soa(name: string): Promise<DnsAnswer<SoaRecord>> {
    return this.query(name, 'SOA');
  }

  /** Queries under way end as `unreachable`. */
  close(): void {
    this.closed = true;
    for (const connection of this.connections) connection?.session.destroy();
    for (const turn of this.waiting.splice(0)) turn();
  }

  private query<Type extends QueryType>(name: string, type: Type): Promise<Reply<Type>> {
    if (!isQueryable(name)) return Promise.resolve(unreachable(`${name} cannot be asked for`));
    const question = `${type} ${name}`;
    const asked = this.questions.get(question) as Promise<Reply<Type>> | undefined;
    if (asked) return asked;
    const answer = this.inTurn(name, type, question);
    this.questions.set(question, answer);
    return answer;
  }

  private async inTurn<Type extends QueryType>(name: string, type: Type, question: string): Promise<Reply<Type>> {
    if (this.underWay < this.streams * this.connections.length) this.underWay++;
    else await new Promise<void>((turn) => this.waiting.push(turn));
    try {
      const deadline = performance.now() + this.timeoutMs;
      const answer = await this.ask(name, type, deadline);
      if (answer.kind !== 'servfail' || answer.evidence?.bogus) return answer;
      const unchecked = await this.ask(name, type, deadline, { unchecked: true });
      if (unchecked.kind === 'servfail' || unchecked.kind === 'unreachable') return answer;
      // Either the validation is what fails, or the failure is over.
      const again = await this.ask(name, type, deadline);
      if (again.kind !== 'servfail') return again.kind === 'unreachable' ? answer : again;
      return { ...again, evidence: { ...again.evidence, bogus: true } };
    } finally {
      this.questions.delete(question);
      // The place goes from hand to hand, so that nobody slips in between.
      const next = this.waiting.shift();
      if (next) next();
      else this.underWay--;
    }
  }

  private async ask<Type extends QueryType>(
    name: string,
    type: Type,
    deadline: number,
    options: { readonly unchecked?: boolean } = {},
  ): Promise<Reply<Type>> {
    const path = this.path + encodeQuery(name, type, options).toString('base64url');
    let reply = await this.send(path, deadline);
    // A GET can be repeated: the server may have closed an idle connection at the moment we took it.
    if ('lost' in reply) reply = await this.send(path, deadline);
    if ('lost' in reply) return unreachable(`the connection was lost (${reply.lost})`);
    return 'body' in reply ? decodeReply(reply.body, name, type) : unreachable(reply.refused);
  }

  private send(path: string, deadline: number): Promise<Outcome> {
    if (this.closed) return Promise.resolve({ refused: 'the client is closed' });
    return new Promise((resolve) => {
      const connection = this.connection();
      let stream: ClientHttp2Stream;
      try {
        stream = connection.session.request({ ':path': path, accept: 'application/dns-message' });
      } catch (error) {
        this.drop(connection);
        return resolve({ lost: (error as Error).message });
      }
      connection.streams++;
      let settled = false;
      /** Once, and without waiting for the stream: one that never reached the peer may never close. */
      const settle = (outcome: Outcome) => {
        if (settled) return;
        settled = true;
        clearTimeout(timer);
        connection.streams--;
        resolve(outcome);
        stream.close(constants.NGHTTP2_CANCEL);
      };
      const timer = setTimeout(() => {
        settle({ refused: `no answer within ${this.timeoutMs} ms` });
        // Silence on all of it means that the peer is gone without a word.
        if (performance.now() - connection.heardAt >= this.timeoutMs) this.drop(connection);
      }, deadline - performance.now());

      let answered = false;
      let expected: number | undefined;
      let length = 0;
      const chunks: Buffer[] = [];
      stream.on('response', (headers) => {
        answered = true;
        connection.heardAt = performance.now();
        const type = String(headers['content-type'] ?? 'none')
          .split(';', 1)[0]!
          .trim()
          .toLowerCase();
        if (headers[':status'] !== 200) settle({ refused: `status ${headers[':status']}` });
        else if (type !== 'application/dns-message') settle({ refused: `content type ${type}` });
        else if (headers['content-length'] !== undefined) expected = Number(headers['content-length']);
      });
      stream.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        length += chunk.length;
        if (length > messageLimit) settle({ refused: `more than ${messageLimit} octets` });
      });
      stream.on('error', keptByStream);
      stream.on('close', () => {
        if (!answered) return settle({ lost: stream.errored?.message ?? 'closed by the peer' });
        const whole =
          stream.readableEnded && stream.rstCode === constants.NGHTTP2_NO_ERROR && (expected ?? length) === length;
        settle(
          whole
            ? { body: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks) }
            : { refused: 'an answer that broke off' },
        );
      });
    });
  }

  /** The connection with the fewest streams, opened when it is first needed or was lost. */
  private connection(): Connection {
    let slot = 0;
    for (let i = 1; i < this.connections.length; i++) if (this.loadOf(i) < this.loadOf(slot)) slot = i;
    const existing = this.connections[slot];
    if (existing && isUsable(existing)) return existing;
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

  private loadOf(slot: number): number {
    const connection = this.connections[slot];
    return connection && isUsable(connection) ? connection.streams : 0;
  }

  private drop(connection: Connection): void {
    const slot = this.connections.indexOf(connection);
    if (slot >= 0) this.connections[slot] = undefined;
    connection.session.destroy();
  }
}

const isUsable = ({ session }: Connection): boolean => !session.closed && !session.destroyed;

/** An error without a listener would be thrown; the stream keeps it until it closes. */
const keptByStream = (): void => undefined;
