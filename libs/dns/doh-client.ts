import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import {
  decodeReply,
  encodeQuery,
  isQueryable,
  unreachable,
  type DnsAnswer,
  type MxRecord,
  type QueryType,
  type RecordOf,
  type SoaRecord,
} from './dns-message';

export interface DohOptions {
  /** An `https://…` URL uses HTTP/2 by ALPN, an `http://…` URL by prior knowledge. */
  readonly url: string;
  /**
   * Milliseconds after which a query without an answer is `unreachable`, from when it is sent on; 5,000 when absent.
   */
  readonly timeoutMs?: number;
  /** Connections that are kept open; 2 when absent. */
  readonly sessions?: number;
  /** Concurrent queries on one connection, beyond which queries wait; 100 when absent. */
  readonly streams?: number;
}

type Reply<Type extends QueryType> = DnsAnswer<RecordOf<Type>>;

/** The longest message that is read (RFC 1035 section 4.2.2), in octets. */
const messageLimit = 65_535;

interface Connection {
  readonly session: ClientHttp2Session;
  /** Queries under way on the session. */
  streams: number;
  /** When the session was opened, or its last answer arrived, by `performance.now()`. */
  heardAt: number;
}

type Outcome =
  | { readonly body: Buffer }
  /** The reply does not count as an answer, or none arrived in time. */
  | { readonly refused: string }
  /** The connection was lost before any part of a reply arrived. */
  | { readonly lost: string };

/**
 * Asks a resolver by DNS over HTTPS (RFC 8484), with GET over HTTP/2. Every fault on the way is an answer as well
 * (`unreachable`, with the reason), and nothing is thrown. A reply counts only when it is complete, matches the
 * question, and has status 200.
 */
export class DohClient {
  private readonly origin: string;
  private readonly path: string;
  private readonly timeoutMs: number;
  private readonly streams: number;
  private readonly connections: (Connection | undefined)[];
  /**
   * All open sessions. One that takes no more streams (GOAWAY) is removed from the connections, but may still have
   * streams under way.
   */
  private readonly sessions = new Set<ClientHttp2Session>();
  /** Questions that have no answer yet. A second query for the same question shares the answer. */
  private readonly questions = new Map<string, Promise<DnsAnswer<unknown>>>();
  private readonly waiting: (() => void)[] = [];
  /** The outcomes that arrived in this turn of the event loop, with their callbacks. */
  private arrived: { readonly tell: (outcome: Outcome) => void; readonly outcome: Outcome }[] = [];
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

  /** Asks for TXT records. Each is its concatenated character-strings, with one character for each octet. */
  txt(name: string): Promise<DnsAnswer<string>> {
    return this.query(name, 'TXT');
  }

  /** Asks for IPv4 addresses. */
  a(name: string): Promise<DnsAnswer<string>> {
    return this.query(name, 'A');
  }

  /** Asks for IPv6 addresses. */
  aaaa(name: string): Promise<DnsAnswer<string>> {
    return this.query(name, 'AAAA');
  }

  /** Asks for the name servers of a zone: lower case, without the trailing dot. */
  ns(name: string): Promise<DnsAnswer<string>> {
    return this.query(name, 'NS');
  }

  /** Asks for the CNAME at the name itself, which is not followed. */
  cname(name: string): Promise<DnsAnswer<string>> {
    return this.query(name, 'CNAME');
  }

  /** Asks for the SOA record. The answer has a record without aliases only at the top of a zone. */
  soa(name: string): Promise<DnsAnswer<SoaRecord>> {
    return this.query(name, 'SOA');
  }

  /** Closes the client. Queries under way end as `unreachable`. */
  close(): void {
    this.closed = true;
    for (const session of this.sessions) session.destroy();
    for (const turn of this.waiting.splice(0)) turn();
  }

  private query<Type extends QueryType>(name: string, type: Type): Promise<Reply<Type>> {
    if (!isQueryable(name)) return Promise.resolve(unreachable(`${name} cannot be asked for`));
    const question = `${type} ${name}`;
    const asked = this.questions.get(question) as Promise<Reply<Type>> | undefined;
    if (asked) return asked;
    let resolve!: (reply: Reply<Type>) => void;
    const answer = new Promise<Reply<Type>>((settled) => (resolve = settled));
    this.questions.set(question, answer);
    const settle = (reply: Reply<Type>) => {
      this.questions.delete(question);
      resolve(reply);
      // The next query takes this one's place at once, so that no other query can take it in between.
      const next = this.waiting.shift();
      if (next) next();
      else this.underWay--;
    };
    const begin = () => {
      const deadline = performance.now() + this.timeoutMs;
      this.ask(name, type, deadline, false, (first) => {
        const mayBeBogus = first.kind === 'servfail' && !first.evidence?.bogus && !first.loop;
        if (mayBeBogus) void this.askAgain(name, type, deadline, first).then(settle);
        else settle(first);
      });
    };
    if (this.underWay < this.streams * this.connections.length) {
      this.underWay++;
      begin();
    } else this.waiting.push(begin);
    return answer;
  }

  /**
   * Finds out whether a SERVFAIL is due to a failed validation, by asking with the CD bit and then without it again,
   * since the fault may have passed.
   */
  private async askAgain<Type extends QueryType>(
    name: string,
    type: Type,
    deadline: number,
    first: Reply<Type>,
  ): Promise<Reply<Type>> {
    const ask = (unchecked: boolean) =>
      new Promise<Reply<Type>>((resolve) => this.ask(name, type, deadline, unchecked, resolve));
    const unchecked = await ask(true);
    if (unchecked.kind === 'servfail' || unchecked.kind === 'unreachable') return first;
    const again = await ask(false);
    if (again.kind !== 'servfail') return again.kind === 'unreachable' ? first : again;
    return { ...again, evidence: { ...again.evidence, bogus: true } };
  }

  /**
   * @param done is called once. It is a callback, since promises on this path would cost as much as decoding the reply.
   */
  private ask<Type extends QueryType>(
    name: string,
    type: Type,
    deadline: number,
    unchecked: boolean,
    done: (reply: Reply<Type>) => void,
  ): void {
    const path = this.path + encodeQuery(name, type, { unchecked });
    const settle = (outcome: Outcome) => {
      if ('body' in outcome) done(decodeReply(outcome.body, name, type));
      else if ('refused' in outcome) done(unreachable(outcome.refused));
      else done(unreachable(`the connection was lost (${outcome.lost})`));
    };
    // A GET can be repeated: the server may have closed an idle connection just when the query was sent.
    this.send(path, deadline, (outcome) => ('lost' in outcome ? this.send(path, deadline, settle) : settle(outcome)));
  }

  /** @param told is called once. */
  private send(path: string, deadline: number, told: (outcome: Outcome) => void): void {
    if (this.closed) return told({ refused: 'the client is closed' });
    const connection = this.connection();
    let stream: ClientHttp2Stream;
    try {
      stream = connection.session.request({ ':path': path, accept: messageType });
    } catch (error) {
      this.drop(connection);
      return told({ lost: (error as Error).message });
    }
    connection.streams++;
    // Node keeps a closed stream with its listeners until the old generation is collected, so they must not hold the
    // reply.
    let done: typeof told | undefined = told;
    let chunks: Buffer[] = [];
    /**
     * Settles once, and without waiting for the stream to close, since a stream that never reached the peer may not.
     */
    const settle = (outcome: Outcome) => {
      if (!done) return;
      const tell = done;
      done = undefined;
      chunks = [];
      clearTimeout(timer);
      connection.streams--;
      this.handOver(tell, outcome);
      stream.close(constants.NGHTTP2_CANCEL);
    };
    const timer = setTimeout(() => {
      settle({ refused: `no answer within ${this.timeoutMs} ms` });
      // A connection on which nothing has arrived for the whole time-out is dead.
      if (performance.now() - connection.heardAt >= this.timeoutMs) this.drop(connection);
    }, deadline - performance.now());

    let answered = false;
    let expected: number | undefined;
    let length = 0;
    stream.on('response', (headers) => {
      answered = true;
      connection.heardAt = performance.now();
      const type = mediaType(headers['content-type']);
      if (headers[':status'] !== 200) settle({ refused: `status ${headers[':status']}` });
      else if (type !== messageType) settle({ refused: `content type ${type}` });
      else if (headers['content-length'] !== undefined) expected = Number(headers['content-length']);
    });
    stream.on('data', (chunk: Buffer) => {
      if (!done) return;
      chunks.push(chunk);
      length += chunk.length;
      if (length > messageLimit) settle({ refused: `more than ${messageLimit} octets` });
    });
    stream.on('error', keptByStream);
    stream.on('close', () => {
      if (!done) return;
      if (!answered) return settle({ lost: stream.errored?.message ?? 'closed by the peer' });
      const whole =
        stream.readableEnded && stream.rstCode === constants.NGHTTP2_NO_ERROR && (expected ?? length) === length;
      settle(
        whole
          ? { body: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks) }
          : { refused: 'an answer that broke off' },
      );
    });
  }

  /**
   * Runs the callbacks of all outcomes of one turn of the event loop together at its end. The queries that follow from
   * them leave in one write, and the code of each step stays in the processor's cache.
   */
  private handOver(tell: (outcome: Outcome) => void, outcome: Outcome): void {
    this.arrived.push({ tell, outcome });
    if (this.arrived.length > 1) return;
    setImmediate(() => {
      const { arrived } = this;
      this.arrived = [];
      for (const { tell, outcome } of arrived) tell(outcome);
    });
  }

  /** Gives the connection with the fewest streams, and opens it when it is not open. */
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
    session.on('close', () => {
      this.sessions.delete(session);
      forget();
    });
    this.sessions.add(session);
    // Each stream reports the error as its own outcome.
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

const messageType = 'application/dns-message';

/** Gives a media type without its parameters, in lower case (RFC 9110 section 8.3.1). */
const mediaType = (value: string | undefined): string =>
  value === messageType
    ? value
    : String(value ?? 'none')
        .split(';', 1)[0]!
        .trim()
        .toLowerCase();

const isUsable = ({ session }: Connection): boolean => !session.closed && !session.destroyed;

/** Ignores the error event, which would be thrown without a listener. The stream keeps the error until it closes. */
const keptByStream = (): void => undefined;
