import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent, type AgentOptions } from 'node:https';
import { isIP, type Socket } from 'node:net';

/** Names what a connection leads to, as an agent asks for it. */
interface Place {
  readonly host?: string | null | undefined;
  readonly port?: number | string | null | undefined;
}

/** Connections that a client keeps at most, which is the default of the AWS SDK. */
const maxSockets = 50;

/**
 * Keeps the connections of an HTTP client, and opens one before there is a request for it, TLS included. A request that
 * has to be sent at a certain moment would be late by the time that this takes.
 */
export class ConnectionAhead {
  readonly http = new HttpAgent({ keepAlive: true, maxSockets });
  readonly https: HttpsAgent;
  private ahead: { readonly socket: Socket; readonly host: string; readonly port: number } | undefined;
  private opening: Promise<void> | undefined;

  constructor(options: AgentOptions = {}) {
    this.https = new HttpsAgent({ ...options, keepAlive: true, maxSockets });
    for (const agent of [this.http, this.https]) {
      const connect = agent.createConnection.bind(agent);
      agent.createConnection = (place, created) => this.take(place) ?? connect(place, created);
    }
  }

  /**
   * Resolves when a connection to a server is open that no request uses. Rejects when none can be opened.
   *
   * @param withinMs milliseconds after which a connection counts as failed.
   */
  async open(server: URL, withinMs: number): Promise<void> {
    const agent = server.protocol === 'https:' ? this.https : this.http;
    const idle = Object.values(agent.freeSockets).some((sockets) => sockets && sockets.length > 0);
    if (idle || this.ahead) return;
    await (this.opening ??= this.connect(server, withinMs).finally(() => (this.opening = undefined)));
  }

  close(): void {
    this.ahead?.socket.destroy();
    this.http.destroy();
    this.https.destroy();
  }

  private connect({ protocol, hostname, port: named }: URL, withinMs: number): Promise<void> {
    const isSecure = protocol === 'https:';
    const agent = isSecure ? this.https : this.http;
    const host = hostname.replace(/^\[|\]$/g, '');
    const port = Number(named) || (isSecure ? 443 : 80);
    return new Promise((resolve, reject) => {
      // An agent names the server (SNI) for its own requests alone. An address has no name (RFC 6066 section 3).
      const servername = isIP(host) ? '' : host;
      const tls = isSecure && { ...this.https.options, servername };
      const socket = agent.createConnection({ ...tls, host, port }) as Socket;
      const late = setTimeout(
        () => socket.destroy(new Error(`No connection to ${host} within ${withinMs} ms`)),
        withinMs,
      );
      socket.once(isSecure ? 'secureConnect' : 'connect', () => {
        clearTimeout(late);
        socket.unref();
        this.ahead = { socket, host, port };
        resolve();
      });
      // What happens to it before a request uses it concerns nobody: the request opens another one.
      socket.on('error', reject);
      socket.once('close', () => {
        clearTimeout(late);
        if (this.ahead?.socket === socket) this.ahead = undefined;
        reject(new Error(`${host} has closed the connection`));
      });
    });
  }

  private take({ host, port }: Place): Socket | undefined {
    const { ahead } = this;
    if (!ahead?.socket.writable || ahead.host !== host || ahead.port !== Number(port)) return undefined;
    this.ahead = undefined;
    return ahead.socket.ref();
  }
}
