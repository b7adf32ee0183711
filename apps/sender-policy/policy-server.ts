import { createServer, type Server, type Socket } from 'node:net';
import { Injectable, Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';

/** Octets of a request; Postfix sends about one KiB, and no attribute of it is longer than a line of SMTP. */
const requestLimit = 65_536;
/** Connections at a time. Each `smtpd` of Postfix keeps one, and `default_process_limit` is 100. */
const connectionLimit = 1_000;
/** Milliseconds of silence after which a connection ends. Postfix ends an idle one after 300 s itself. */
const idleMs = 600_000;

export type Attributes = ReadonlyMap<string, string>;

export interface PolicyServerOptions {
  readonly host: string;
  readonly port: number;
}

/**
 * Serves the Postfix policy delegation protocol (SMTPD_POLICY_README): a request is lines of `name=value` and an empty
 * line; the answer is `action=` and an empty line. Requests of a connection are answered one after the other.
 */
@Injectable()
export class PolicyServer implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(PolicyServer.name);
  private readonly connections = new Map<Socket, { answering: Promise<void> | undefined }>();
  private readonly server: Server = createServer((socket) => this.serve(socket));

  constructor(
    private readonly actionFor: (attributes: Attributes) => Promise<string>,
    private readonly options: PolicyServerOptions,
  ) {
    this.server.maxConnections = connectionLimit;
  }

  async onApplicationBootstrap(): Promise<void> {
    const { host, port } = this.options;
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject).listen(port, host, () => resolve());
    });
    this.server.on('error', (error) => this.logger.error(error));
    this.logger.log(`Postfix is answered on port ${port}`);
  }

  /** Answers what was asked, and ends all connections. Postfix asks again over another one. */
  async beforeApplicationShutdown(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve));
    for (const { answering } of this.connections.values()) await answering;
    for (const socket of this.connections.keys()) socket.destroy();
    await closed;
  }

  private serve(socket: Socket): void {
    const connection: { answering: Promise<void> | undefined } = { answering: undefined };
    this.connections.set(socket, connection);
    let received = Buffer.alloc(0);
    const answerNext = (): void => {
      const end = received.indexOf('\n\n');
      if (end < 0) {
        if (received.length > requestLimit) socket.destroy();
        else socket.resume();
        return;
      }
      const request = received.subarray(0, end);
      received = received.subarray(end + 2);
      // What is sent meanwhile stays in the kernel, so that a client that reads nothing fills no memory.
      socket.pause();
      connection.answering = this.actionFor(attributesOf(request)).then(
        (action) => {
          connection.answering = undefined;
          if (socket.writable) socket.write(`action=${action}\n\n`, answerNext);
        },
        (error: Error) => {
          this.logger.error(error);
          socket.destroy();
        },
      );
    };
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (connection.answering === undefined) answerNext();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.connections.delete(socket));
  }
}

/** Reads the lines of a request. A line without `=` says nothing, and of two with one name the last counts. */
export function attributesOf(request: Buffer): Attributes {
  const lines = request.toString('utf8').split('\n');
  return new Map(
    lines.flatMap((line) => {
      const equals = line.indexOf('=');
      return equals < 0 ? [] : [[line.slice(0, equals), line.slice(equals + 1)] as const];
    }),
  );
}
