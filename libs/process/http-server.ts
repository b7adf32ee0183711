import {
  createServer,
  STATUS_CODES,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import { newId } from '@app/runtime';
import { requestId } from './request-id';
import { Connections } from './connections';

/** How long a client may take to send a request, in milliseconds. */
export interface TimeLimits {
  /** From the connection, or the first octet of a later request, to the end of the head. */
  readonly headMs: number;
  /** From the same moment to the end of the body. */
  readonly requestMs: number;
  /** How often all connections are examined; a slow client is refused that much later at most. */
  readonly checkEveryMs: number;
}

/**
 * How long a connection without a request stays open, in milliseconds: longer than the 60 s that load balancers keep
 * theirs, so that none sends a request on a connection that is just being closed here.
 */
const keepAliveMs = 72_000;

export const timeLimits: TimeLimits = { headMs: 20_000, requestMs: 30_000, checkEveryMs: 5_000 };

/** Why a request is refused before a route sees it. */
export type RequestFault =
  | 'not_http'
  | 'unknown_method'
  | 'head_too_large'
  | 'too_slow'
  | 'host'
  | 'repeated_header'
  | 'expectation'
  | 'path'
  | 'stopping';

/** The answer to a request that is refused before a route sees it. */
export interface Refusal {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object;
}

export type Refuse = (fault: RequestFault, requestId: string) => Refusal;

export interface HttpServerOptions {
  readonly limits?: TimeLimits;
  readonly refuse?: Refuse;
  /** Headers that every answer of this process has, beside those of every process. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** No answer of ours may be kept by a cache, or be taken for another media type than it says. */
const headersOfAll = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' };

const statuses: Record<RequestFault, number> = {
  not_http: 400,
  unknown_method: 501,
  head_too_large: 431,
  too_slow: 408,
  host: 400,
  repeated_header: 400,
  expectation: 417,
  path: 404,
  stopping: 503,
};
const plain: Refuse = (fault) => ({ status: statuses[fault] });

/**
 * Creates the servers of one process, and answers what the routes never see: bytes that are no request, and bad heads.
 */
export class HttpServers {
  readonly connections = new Connections();
  private readonly limits: TimeLimits;
  private readonly refuse: Refuse;
  private readonly headers: Readonly<Record<string, string>>;
  private readonly fields: readonly (readonly [string, string])[];

  constructor({ limits = timeLimits, refuse = plain, headers = {} }: HttpServerOptions) {
    this.limits = limits;
    this.refuse = refuse;
    this.headers = { ...headersOfAll, ...headers };
    this.fields = Object.entries(this.headers);
  }

  /** Creates a server; requests with a proper head get to the handler. */
  create(handler: RequestListener): Server {
    const { headMs, requestMs, checkEveryMs } = this.limits;
    const server = createServer({
      headersTimeout: headMs,
      requestTimeout: requestMs,
      keepAliveTimeout: keepAliveMs,
      connectionsCheckingInterval: checkEveryMs,
      // Node's own refusal would have no body.
      requireHostHeader: false,
      // An option of Node in the environment would have requests read of which others see another end.
      insecureHTTPParser: false,
    });
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      for (const [name, value] of this.fields) response.setHeader(name, value);
      const fault = this.connections.isClosing ? 'stopping' : faultOfHead(request);
      if (fault) this.answer(fault, request, response);
      else handler(request, response);
    });
    server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
      for (const [name, value] of this.fields) response.setHeader(name, value);
      this.answer('expectation', request, response);
    });
    server.on('clientError', this.onClientError);
    server.on('connect', (request: IncomingMessage, socket: Socket) =>
      this.write(socket, 'unknown_method', requestId(request)),
    );
    this.connections.of(server);
    return server;
  }

  /** Answers a request whose head was read, through its response. */
  answer(fault: RequestFault, request: IncomingMessage, response: ServerResponse): void {
    const { status, headers, body } = this.refuse(fault, requestId(request));
    const text = body ? JSON.stringify(body) : '';
    response.writeHead(status, {
      ...headers,
      ...(body && { 'content-type': 'application/json; charset=utf-8' }),
      'content-length': Buffer.byteLength(text),
      'x-request-id': requestId(request),
      // What follows may be the rest of a body that nobody reads.
      connection: 'close',
    });
    response.end(text);
  }

  /**
   * Answers what Node could not read as a request, or not in time, and closes the connection. A client that has sent
   * nothing has asked nothing. One that waits for the answer to an earlier request gets that one and no other, since it
   * would take another for it.
   */
  private readonly onClientError = (error: ClientError, socket: Socket): void => {
    const answers = this.connections.answersOn(socket);
    if (answers.length > 0) return void answers.at(-1)!.once('close', () => socket.destroy());
    const request = this.connections.incompleteOn(socket);
    const isAnswered = request !== undefined && !this.connections.isUnderWay(request);
    if (!socket.writable || isAnswered || socket.bytesRead === 0) return void socket.destroy();
    this.write(socket, faultOf(error), request ? requestId(request) : newId('req'));
  };

  private write(socket: Socket, fault: RequestFault, id: string): void {
    const { status, headers, body } = this.refuse(fault, id);
    const text = body ? JSON.stringify(body) : '';
    const fields = {
      ...this.headers,
      ...headers,
      ...(body && { 'content-type': 'application/json; charset=utf-8' }),
      'content-length': Buffer.byteLength(text),
      'x-request-id': id,
      connection: 'close',
    };
    const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
    const answer = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...head, '', text].join('\r\n');
    socket.end(answer, () => socket.destroy());
    // For a client that does not read.
    socket.setTimeout(1_000, () => socket.destroy());
  }
}

type ClientError = NodeJS.ErrnoException & { readonly rawPacket?: Buffer };

function faultOf({ code, rawPacket }: ClientError): RequestFault {
  if (code === 'HPE_HEADER_OVERFLOW') return 'head_too_large';
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'too_slow';
  const isRequest = requestLineForm.test(rawPacket?.toString('latin1', 0, requestLineLimit) ?? '');
  return code === 'HPE_INVALID_METHOD' && isRequest ? 'unknown_method' : 'not_http';
}

/** A request line whose method is any token (RFC 9112 section 3). */
const requestLineForm = /^[!#$%&'*+.^_`|~\dA-Za-z-]{1,64} [^ \r\n]{1,4000} HTTP\/1\.[01]\r?\n/;
const requestLineLimit = 4_096;

/** Header fields that are no lists: a second line of one contradicts the first (RFC 9110 section 5.3). */
const singular = new Set(['authorization', 'content-type', 'idempotency-key']);
/** `uri-host [ ":" port ]` of RFC 9110 section 7.2, or nothing. */
const hostForm = /^(\[[\da-f:.]+\]|[\w.~%!$&'()*+,;=-]*)(:\d{0,5})?$/i;

function faultOfHead({ rawHeaders, httpVersion }: IncomingMessage): RequestFault | undefined {
  const seen = new Set<string>();
  let host: string | undefined;
  let fault: RequestFault | undefined;
  // A name is followed by its value.
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase();
    if (name === 'host') {
      if (host !== undefined) return 'host';
      host = rawHeaders[at + 1]!;
    } else if (singular.has(name)) {
      if (seen.has(name)) fault = 'repeated_header';
      seen.add(name);
    }
  }
  // Required of 1.1, and of it alone (RFC 9112 section 3.2).
  if (host === undefined ? httpVersion === '1.1' : !hostForm.test(host)) return 'host';
  return fault;
}
