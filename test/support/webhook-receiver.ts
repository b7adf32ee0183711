import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { receivedMessage, type ReceivedMessage } from './webhook-checker';

/** An endpoint of a customer on loopback, which answers 204 unless it is told otherwise, and keeps what it got. */
export class WebhookReceiver {
  readonly received: ReceivedMessage[] = [];
  /** The secrets by which it verifies. */
  readonly secrets: string[] = [];
  /** The status of the next answer. */
  answer: (message: ReceivedMessage) => number | Promise<number> = () => 204;

  private constructor(private readonly server: Server) {}

  static async open(): Promise<WebhookReceiver> {
    const server = createServer();
    const receiver = new WebhookReceiver(server);
    server.on('request', (request, response) => {
      const chunks: Buffer[] = [];
      request
        .on('data', (chunk: Buffer) => chunks.push(chunk))
        .on('end', () => {
          const body = Buffer.concat(chunks).toString('utf8');
          const message = receivedMessage(receiver.secrets, request.headers, body);
          receiver.received.push(message);
          void Promise.resolve(receiver.answer(message)).then((status) => response.writeHead(status).end());
        });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}
