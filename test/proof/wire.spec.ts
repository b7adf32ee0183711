import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Wire, type Fate, type Passing } from './wire';

/** A server that answers each line with `250 ` and the line, and keeps what it has got. */
let server: Server;
let got: string;
let ends: number;
let wire: Wire | undefined;
let passed: string[];

beforeEach(async () => {
  [got, ends, passed] = ['', 0, []];
  server = createServer((socket) => {
    socket.on('error', () => undefined).on('close', () => ends++);
    socket.setEncoding('latin1').on('data', (lines: string) => {
      got += lines;
      for (const line of lines.split('\r\n').filter(Boolean)) socket.write(`250 ${line}\r\n`);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(() => {
  wire?.cut();
  server.close();
});

/** Opens a wire on which something happens at the first message of a kind, and a client of it. */
async function opened(
  kind: string,
  fate: Fate,
): Promise<{ client: Socket; heard: () => string; closed: Promise<unknown> }> {
  let isOver = false;
  const judge = ({ wire: name, from, kind: its }: Passing): Fate => {
    passed.push(`${name} ${from} ${its}`);
    if (its !== kind || isOver) return 'pass';
    isOver = true;
    return fate;
  };
  wire = await Wire.open(
    'app-smtp',
    'smtp',
    { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
    judge,
  );
  let heard = '';
  const client = connect(wire.port, '127.0.0.1');
  client
    .setEncoding('latin1')
    .on('error', () => undefined)
    .on('data', (text: string) => (heard += text));
  return { client, heard: () => heard, closed: once(client, 'close') };
}

it('passes messages on, and names each once', async () => {
  const { client, heard } = await opened('nothing', 'pass');
  client.write('NOOP a\r\nRS');
  client.write('ET\r\n');
  while (!heard().includes('RSET')) await delay(5);
  expect(got).toBe('NOOP a\r\nRSET\r\n');
  expect(passed.filter((each) => each.includes('client'))).toEqual(['app-smtp client NOOP', 'app-smtp client RSET']);
  client.destroy();
});

it('ends the connection before a message, which does not arrive', async () => {
  const { client, heard, closed } = await opened('RSET', { kill: 'before' });
  client.write('NOOP\r\nRSET\r\nVRFY\r\n');
  await closed;
  while (ends === 0) await delay(5);
  expect(got).toBe('NOOP\r\n');
  expect(heard()).not.toContain('RSET');
});

it('ends the connection after a message, which still arrives, and whose answer does not', async () => {
  const { client, heard, closed } = await opened('RSET', { kill: 'after' });
  client.write('RSET\r\nVRFY\r\n');
  await closed;
  while (ends === 0) await delay(5);
  expect([got, heard()]).toEqual(['RSET\r\n', '']);
});

it('has the client get an answer after which the connection ends', async () => {
  const { client, heard, closed } = await opened('reply to RSET', { kill: 'after' });
  client.write('RSET\r\n');
  await closed;
  expect(heard()).toBe('250 RSET\r\n');
});

it('holds a message, and what follows it in its direction, for as long as it is told to', async () => {
  let since = 0;
  const { client, heard } = await opened('RSET', { delayMs: 150, onFault: () => (since = performance.now()) });
  client.write('NOOP\r\nRSET\r\nVRFY\r\n');
  while (!heard().includes('NOOP')) await delay(5);
  expect(got).toBe('NOOP\r\n');
  while (!heard().includes('VRFY')) await delay(5);
  // Timers count whole milliseconds.
  expect(performance.now() - since).toBeGreaterThan(148);
  expect(got).toBe('NOOP\r\nRSET\r\nVRFY\r\n');
  client.destroy();
});

it('is cut: every connection ends, and none is taken any more', async () => {
  const { client, heard, closed } = await opened('nothing', 'pass');
  client.write('NOOP\r\n');
  while (!heard().includes('NOOP')) await delay(5);
  const { port } = wire!;
  wire!.cut();
  await closed;
  const [error] = (await once(connect(port, '127.0.0.1'), 'error')) as [NodeJS.ErrnoException];
  expect(error.code).toBe('ECONNREFUSED');
});
