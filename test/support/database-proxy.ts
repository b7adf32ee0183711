import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Stands between processes and their database, so that it can be away for them alone. */
export class DatabaseProxy {
  private server: Server | undefined;
  private readonly sockets = new Set<Socket>();
  private port = 0;

  /** @param database the URL of the real one. */
  private constructor(private readonly database: URL) {}

  static async open(database: string): Promise<DatabaseProxy> {
    const proxy = new DatabaseProxy(new URL(database));
    await proxy.back();
    return proxy;
  }

  /** The URL under which the processes find their database. */
  get url(): string {
    const url = new URL(this.database);
    url.host = `127.0.0.1:${this.port}`;
    return url.href;
  }

  /** Ends all connections, and refuses new ones. */
  away(): void {
    this.server?.close();
    this.server = undefined;
    for (const socket of this.sockets) socket.destroy();
  }

  /** Takes connections again. */
  async back(): Promise<void> {
    const { hostname, port } = this.database;
    this.server = createServer((socket) => {
      const onwards = connect(Number(port), hostname);
      for (const [from, to] of [
        [socket, onwards],
        [onwards, socket],
      ] as const) {
        this.sockets.add(from);
        from.pipe(to);
        from
          .on('error', () => undefined)
          .on('close', () => {
            this.sockets.delete(from);
            to.destroy();
          });
      }
    }).listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = (this.server.address() as AddressInfo).port;
  }
}
