import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Stands between processes and their database, so that it can be away for them alone, or become another one. */
export class DatabaseProxy {
  private server: Server | undefined;
  private readonly sockets = new Set<Socket>();
  private port = 0;
  private isSilent = false;

  /** @param database the URL of the real one. */
  private constructor(private database: URL) {}

  static async open(database: string): Promise<DatabaseProxy> {
    const proxy = new DatabaseProxy(new URL(database));
    await proxy.back();
    return proxy;
  }

  /** The URL under which the processes find their database. */
  get url(): string {
    return this.to(this.database.href);
  }

  /** Gives the URL of a database on the server behind this, by way of this. */
  to(database: string): string {
    const url = new URL(database);
    url.host = `127.0.0.1:${this.port}`;
    return url.href;
  }

  /** Ends all connections, and refuses new ones. */
  away(): void {
    this.server?.close();
    this.server = undefined;
    for (const socket of this.sockets) socket.destroy();
  }

  /** Passes nothing on from now on, and ends nothing either: what a client sees of a machine that has vanished. */
  fallSilent(): void {
    this.isSilent = true;
    for (const socket of this.sockets) socket.unpipe().pause();
  }

  /** Leads new connections to another server. Those that there are stay as they are. */
  leadTo(database: string): void {
    this.database = new URL(database);
    this.isSilent = false;
  }

  /** Takes connections again. */
  async back(): Promise<void> {
    this.isSilent = false;
    this.server = createServer((socket) => {
      const { hostname, port } = this.database;
      const onwards = connect(Number(port), hostname);
      for (const [from, to] of [
        [socket, onwards],
        [onwards, socket],
      ] as const) {
        this.sockets.add(from);
        if (!this.isSilent) from.pipe(to);
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
