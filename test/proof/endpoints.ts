import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { receivedMessage, type ReceivedMessage } from '../support/webhook-checker';

/** The endpoints of customers, on one port: the path of each is the id of its webhook. All answer 204. */
export class Endpoints {
  readonly received = new Map<string, ReceivedMessage[]>();
  private readonly secrets = new Map<string, string>();

  private constructor(private readonly server: Server) {}

  static async open(): Promise<Endpoints> {
    const server = createServer();
    const endpoints = new Endpoints(server);
    server.on('request', (request, response) => {
      const id = (request.url ?? '').slice(1);
      const pieces: Buffer[] = [];
      request
        .on('data', (piece: Buffer) => pieces.push(piece))
        .on('error', () => undefined)
        .on('end', () => {
          const secret = endpoints.secrets.get(id);
          const message = receivedMessage(secret ? [secret] : [], request.headers, Buffer.concat(pieces).toString());
          endpoints.received.set(id, [...(endpoints.received.get(id) ?? []), message]);
          response.writeHead(204).end();
        });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return endpoints;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  add(id: string, secret: string): void {
    this.secrets.set(id, secret);
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}
