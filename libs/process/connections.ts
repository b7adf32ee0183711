import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

interface Connection {
  /** Requests whose answers are not complete, in the order in which they came. */
  readonly underWay: Map<IncomingMessage, ServerResponse>;
  /** The last request whose head was read. */
  last: IncomingMessage | undefined;
}

/** How long a stop waits for answers, and within that for the bodies of requests, in milliseconds. */
const answersWithinMs = 7_000;
const bodiesWithinMs = 1_000;

/** Knows what each connection of a process is at, so that a stop waits for answers and for nobody who asks nothing. */
export class Connections {
  private readonly open = new Map<Socket, Connection>();
  private closing = false;

  get isClosing(): boolean {
    return this.closing;
  }

  /** Follows the connections of a server. */
  of(server: Server): void {
    server.on('connection', (socket) => {
      if (this.closing) return void socket.destroy();
      this.open.set(socket, { underWay: new Map(), last: undefined });
      socket.once('close', () => this.open.delete(socket));
    });
    server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
      const connection = this.open.get(request.socket);
      if (!connection) return;
      connection.last = request;
      connection.underWay.set(request, response);
      response.once('close', () => connection.underWay.delete(request));
    });
  }

  /** Gives the request on a connection whose body has not come in whole, whether it has its answer or not. */
  incompleteOn(socket: Socket): IncomingMessage | undefined {
    const last = this.open.get(socket)?.last;
    return last?.complete === false ? last : undefined;
  }

  /** Says whether the answer to a request has not ended. */
  isUnderWay(request: IncomingMessage): boolean {
    return this.open.get(request.socket)?.underWay.has(request) ?? false;
  }

  /** Gives the answers that a connection still waits for or is receiving. */
  answersOn(socket: Socket): readonly ServerResponse[] {
    const answers = [...(this.open.get(socket)?.underWay ?? [])];
    return answers.filter(([{ complete }, { headersSent }]) => complete || headersSent).map(([, response]) => response);
  }

  /**
   * Closes all connections: at once those without a request under way; after 1 s those whose request is not complete;
   * after 7 s the others, unless their answers end before. Call it when the servers accept no more connections.
   */
  async close(): Promise<void> {
    this.closing = true;
    const begun = performance.now();
    while (this.open.size > 0) {
      const waited = performance.now() - begun;
      for (const [socket, { underWay }] of this.open) {
        const awaited = [...underWay.keys()].some(({ complete }) => complete || waited < bodiesWithinMs);
        if (!awaited || waited >= answersWithinMs) socket.destroy();
      }
      await delay(20);
    }
  }
}
