import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { receivedMessage, type ReceivedMessage } from '../support/webhook-checker';

/** What the endpoints do with a message. */
export type Mood = 'take' | 'refuse' | 'hang';

/**
 * The endpoints of customers, on one port: the path of each is a name. What is taken is answered with 204, and kept for
 * those that are kept. What is refused, or never answered, has not arrived.
 */
export class MoodyEndpoints {
  mood: Mood = 'take';
  /** What the endpoints that are kept have taken, by their names. */
  readonly received = new Map<string, ReceivedMessage[]>();
  private readonly secrets = new Map<string, string>();
  private readonly hung = new Set<ServerResponse>();

  private constructor(private readonly server: Server) {}

  static async open(): Promise<MoodyEndpoints> {
    const server = createServer();
    const endpoints = new MoodyEndpoints(server);
    server.on('request', (request, response) => {
      const pieces: Buffer[] = [];
      request
        .on('data', (piece: Buffer) => pieces.push(piece))
        .on('error', () => undefined)
        .on('end', () => endpoints.answer((request.url ?? '').slice(1), request.headers, pieces, response));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return endpoints;
  }

  url(name: string): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/${name}`;
  }

  /** Keeps what an endpoint takes, signed by this secret. */
  keep(name: string, secret: string): void {
    this.secrets.set(name, secret);
    this.received.set(name, []);
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private answer(
    name: string,
    headers: Parameters<typeof receivedMessage>[1],
    pieces: readonly Buffer[],
    response: ServerResponse,
  ): void {
    if (this.mood === 'hang') {
      this.hung.add(response);
      response.once('close', () => this.hung.delete(response));
      return;
    }
    if (this.mood === 'refuse') return void response.writeHead(503).end('not now');
    const secret = this.secrets.get(name);
    if (secret !== undefined)
      this.received.get(name)!.push(receivedMessage([secret], headers, Buffer.concat(pieces).toString()));
    response.writeHead(204).end();
  }
}
