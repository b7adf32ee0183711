import {
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type IncomingHttpHeaders,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import * as packet from 'dns-packet';
import { Faults, type Api } from './faults';
import { Zone } from './zone';

const rcodes = { NOERROR: 0, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 } as const;
const mediaType = 'application/dns-message';

/** Two resolvers over the one zone, with faults of their own: RFC 8484, GET and POST, cleartext HTTP/2. */
@Injectable()
export class DohServer implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly server: Http2Server = createServer();
  private readonly sessions = new Set<ServerHttp2Session>();

  constructor(
    private readonly zone: Zone,
    private readonly faults: Faults,
    private readonly listen: { readonly host: string; readonly port: number },
  ) {}

  /** `http://…` of the two resolvers. */
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
      // A client that went away is its own affair.
      stream.on('error', () => undefined);
      this.serve(stream, headers);
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

  private serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const { pathname, searchParams } = new URL(headers[':path'] ?? '/', 'http://sandbox');
    const resolver = /^\/resolver-([ab])\/dns-query$/.exec(pathname)?.[1];
    if (!resolver) return this.refuse(stream, 404);
    if (headers[':method'] === 'GET') {
      const query = searchParams.get('dns');
      return query
        ? this.answer(stream, `doh-${resolver}` as Api, Buffer.from(query, 'base64url'))
        : this.refuse(stream, 400);
    }
    if (headers[':method'] !== 'POST') return this.refuse(stream, 405);
    if (headers['content-type'] !== mediaType) return this.refuse(stream, 415);
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => this.answer(stream, `doh-${resolver}` as Api, Buffer.concat(chunks)));
  }

  private answer(stream: ServerHttp2Stream, api: Api, bytes: Buffer): void {
    let query: packet.Packet;
    try {
      query = packet.decode(bytes);
    } catch {
      return this.refuse(stream, 400);
    }
    const [question] = query.questions ?? [];
    if (!question) return this.refuse(stream, 400);
    const fault = this.faults.take(api);
    if (fault === 'hang') return;
    if (fault === 'http_500') return this.refuse(stream, 500);
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
    if (fault === 'garbage') return this.send(stream, Buffer.from('not a message'));
    if (fault === 'servfail') return reply('SERVFAIL');
    if (fault === 'refused') return reply('REFUSED');
    if (fault === 'nxdomain') return reply('NXDOMAIN');
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
    if (!stream.destroyed) stream.respond({ ':status': status }, { endStream: true });
  }
}
