import { createServer, get } from 'node:https';
import { createServer as createSilentServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { certificatesFor, opensslIsInstalled } from '../../test/support/certificates';
import { ConnectionAhead } from './connection-ahead';

const urlOf = (server: Server) => new URL(`https://localhost:${(server.address() as AddressInfo).port}`);
const listening = (server: Server) => new Promise<void>((ready) => server.listen(0, 'localhost', ready));

(opensslIsInstalled() ? describe : describe.skip)('a connection with TLS that is opened ahead', () => {
  const { ca, good } = certificatesFor('localhost');
  const server = createServer(good, (_, response) => response.end('hello'));
  const connections = new ConnectionAhead({ ca });
  let opened = 0;
  const sockets = new Set<Socket>();
  /** The names that clients have given the server (SNI). */
  const named: unknown[] = [];

  beforeAll(async () => {
    server.on('connection', (socket: Socket) => {
      opened++;
      sockets.add(socket);
    });
    server.on('secureConnection', ({ servername }: TLSSocket & { readonly servername?: unknown }) =>
      named.push(servername),
    );
    await listening(server);
  });
  afterAll(() => {
    connections.close();
    server.closeAllConnections();
    server.close();
  });

  const ask = (agent = connections.https) =>
    new Promise<string>((resolve, reject) => {
      const { hostname: host, port } = urlOf(server);
      get({ agent, host, port }, (response) => {
        response.setEncoding('utf8').on('data', resolve);
      }).once('error', reject);
    });

  const closeAll = async () => {
    for (const socket of sockets) socket.destroy();
    await delay(50);
  };

  it('is that of the next request, and is kept for those after it', async () => {
    await Promise.all([connections.open(urlOf(server), 2_000), connections.open(urlOf(server), 2_000)]);
    expect(opened).toBe(1);
    expect(await ask()).toBe('hello');
    await delay(20);
    await connections.open(urlOf(server), 2_000);
    expect(await ask()).toBe('hello');
    expect(opened).toBe(1);
    expect(named).toEqual(['localhost']);
  });

  it('is opened anew where the server has closed it', async () => {
    const before = opened;
    await closeAll();
    await connections.open(urlOf(server), 2_000);
    expect(opened).toBe(before + 1);
    await closeAll();
    expect(await ask()).toBe('hello');
    expect(opened).toBe(before + 2);
  });

  it('fails where nobody listens, or nobody answers in time, or with another certificate', async () => {
    const own = new ConnectionAhead({ ca });
    await expect(own.open(new URL('https://localhost:1'), 2_000)).rejects.toThrow(/ECONNREFUSED/);
    const silent = createSilentServer();
    await listening(silent);
    await expect(own.open(urlOf(silent), 100)).rejects.toThrow('No connection to localhost within 100 ms');
    silent.close();
    await expect(new ConnectionAhead().open(urlOf(server), 2_000)).rejects.toThrow(/certificate/);
    own.close();
  });
});
