import {
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type IncomingHttpHeaders,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Injectable, Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import * as packet from 'dns-packet';
import { Faults } from './faults';
import { Zone } from './zone';

const rcodes = { NOERROR: 0, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 } as const;
const mediaType = 'application/dns-message';
/** The maximum length of a DNS message (RFC 1035 section 4.2.2), in octets. */
const messageLimit = 65_535;
const paths = { '/dns-query': 'doh-a', '/resolver-a/dns-query': 'doh-a', '/resolver-b/dns-query': 'doh-b' } as const;
type Resolver = (typeof paths)[keyof typeof paths];

/** The records of the fault `lie`, none of which is in the zone. */
const lies: Partial<Record<packet.RecordType, object>> = {
  A: { data: '192.0.2.1' },
  CNAME: { data: 'lie.invalid' },
  MX: { data: { preference: 1, exchange: 'lie.invalid' } },
  TXT: { data: ['this is a lie'] },
};

/**
 * Serves two resolvers over the same zone, each with faults of its own: RFC 8484, GET and POST, cleartext HTTP/2.
 * `/dns-query` is the first resolver.
 */
@Injectable()
export class DohServer implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly server: Http2Server = createServer();
  private readonly sessions = new Set<ServerHttp2Session>();
  private readonly logger = new Logger(DohServer.name);

  constructor(
    private readonly zone: Zone,
    private readonly faults: Faults,
    private readonly listen: { readonly host: string; readonly port: number },
  ) {}

  /** Gives the URLs (`http://…`) of the two resolvers. */
  urls(): string[] {
    const { port } = this.server.address() as AddressInfo;
    return ['a', 'b'].map((name) => `http://127.0.0.1:${port}/resolver-${name}/dns-query`);
  }

  async onApplicationBootstrap(): Promise<void> {
    this.server.on('session', (session) => {
      this.sessions.add(session);
      session.on('close', () => this.sessions.delete(session));
    });
    this.server.on('stream', (stream, headers) => {
      // A client that closes the stream early is no fault of the sandbox.
      stream.on('error', () => undefined);
      this.serve(stream, headers).catch((error: unknown) => {
        this.logger.error(error);
        this.refuse(stream, 500);
      });
    });
    await new Promise<void>((ready, failed) => {
      this.server.once('error', failed);
      this.server.listen(this.listen.port, this.listen.host, ready);
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    for (const session of this.sessions) session.destroy();
    await new Promise((closed) => this.server.close(closed));
  }

  private async serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
    const [path = '', search] = (headers[':path'] ?? '').split('?', 2);
    if (!Object.hasOwn(paths, path)) return this.refuse(stream, 404);
    const resolver = paths[path as keyof typeof paths];
    if (headers[':method'] === 'GET') {
      const query = new URLSearchParams(search).get('dns');
      return query ? this.answer(stream, resolver, Buffer.from(query, 'base64url')) : this.refuse(stream, 400);
    }
    if (headers[':method'] !== 'POST') return this.refuse(stream, 405);
    if (headers['content-type'] !== mediaType) return this.refuse(stream, 415);
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length <= messageLimit) chunks.push(chunk);
    }
    if (length > messageLimit) return this.refuse(stream, 413);
    return this.answer(stream, resolver, Buffer.concat(chunks));
  }

  private async answer(stream: ServerHttp2Stream, resolver: Resolver, bytes: Buffer): Promise<void> {
    const query = decode(bytes);
    const question = query?.questions?.[0];
    if (!query || !question) return this.refuse(stream, 400);
    const reply = (rcode: keyof typeof rcodes, answers: packet.Answer[] = [], authorities: packet.Answer[] = []) =>
      this.send(
        stream,
        packet.encode({
          type: 'response',
          id: query.id,
          flags: packet.AUTHORITATIVE_ANSWER | packet.RECURSION_DESIRED | packet.RECURSION_AVAILABLE | rcodes[rcode],
          questions: [question],
          answers,
          authorities,
        }),
      );
    const fault = this.faults.take(resolver);
    switch (fault?.mode) {
      case 'hang':
        return;
      case 'http_500':
        return this.refuse(stream, 500);
      case 'garbage':
        return this.send(stream, Buffer.from('not a message'));
      case 'servfail':
        return reply('SERVFAIL');
      case 'bogus':
        if (query.flag_cd) break;
        return reply('SERVFAIL');
      case 'refused':
        return reply('REFUSED');
      case 'nxdomain':
        return reply('NXDOMAIN');
      case 'lie': {
        const lie = lies[question.type];
        return reply(
          'NOERROR',
          lie ? [{ name: question.name, type: question.type, ttl: 300, ...lie } as packet.Answer] : [],
        );
      }
      case 'late':
        await delay(fault.afterMs);
        break;
      case undefined:
    }
    const { rcode, answers, authorities } = this.zone.resolve(question.name, question.type);
    reply(rcode, answers, authorities);
  }

  private send(stream: ServerHttp2Stream, body: Buffer): void {
    if (stream.destroyed) return;
    stream.respond({
      ':status': 200,
      'content-type': mediaType,
      'content-length': body.length,
      'cache-control': 'no-store',
    });
    stream.end(body);
  }

  private refuse(stream: ServerHttp2Stream, status: number): void {
    if (!stream.destroyed && !stream.headersSent) stream.respond({ ':status': status }, { endStream: true });
  }
}

function decode(bytes: Buffer): packet.DecodedPacket | undefined {
  try {
    return packet.decode(bytes);
  } catch {
    return undefined;
  }
}
