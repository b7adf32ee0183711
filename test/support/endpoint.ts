import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A message that has arrived. */
export interface Arrival {
  /** The header `webhook-id`. */
  readonly id: string;
  /** The time of the arrival, in milliseconds of the monotonic clock. */
  readonly at: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export interface TestEndpoint {
  readonly url: string;
  readonly arrivals: Arrival[];
  /** Answers a message; with 204 unless a test changes it. */
  answer: (arrival: Arrival, response: ServerResponse) => void;
  /** Tries that are under way, and the most that ever were at once. */
  readonly underWay: { now: number; most: number };
  close(): Promise<void>;
}

/** Starts an endpoint for webhooks on loopback. */
export async function startEndpoint(): Promise<TestEndpoint> {
  const arrivals: Arrival[] = [];
  const underWay = { now: 0, most: 0 };
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    underWay.now++;
    underWay.most = Math.max(underWay.most, underWay.now);
    response.once('close', () => underWay.now--);
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { headers } = request;
      const arrival: Arrival = {
        id: String(headers['webhook-id']),
        at: performance.now(),
        headers,
        body: Buffer.concat(chunks).toString(),
      };
      arrivals.push(arrival);
      endpoint.answer(arrival, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endpoint: TestEndpoint = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks?a=b`,
    arrivals,
    underWay,
    answer: (_, response) => response.writeHead(204).end(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return endpoint;
}
