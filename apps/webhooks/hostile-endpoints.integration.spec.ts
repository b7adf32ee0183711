import { createServer as createHttp2Server } from 'node:http2';
import { createServer as createTlsServer } from 'node:https';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { createServer as createSecureServer } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { Logger } from '@nestjs/common';
import * as packet from 'dns-packet';
import { openPool } from '@app/database';
import { DohClient, type DnsAnswer } from '@app/dns';
import { TargetRefused, WebhookDeliveries, WebhookLanes } from '@app/webhooks';
import { bindIsInstalled, startBind, type Bind } from '../../test/support/bind';
import {
  certificatesFor,
  opensslIsInstalled,
  type Certificate,
  type Certificates,
} from '../../test/support/certificates';
import { startEndpoint } from '../../test/support/endpoint';
import { migratedDatabase } from '../../test/support/migrated-database';
import { addWebhook, messageOf, webhookKeys } from '../../test/support/webhooks';
import { EndpointClient, type EndpointClientOptions, type TryResult } from './endpoint-client';
import { LaneWorkers } from './lane-workers';
import { resolversAt, type Resolver } from './pinned-connector';

const timeoutMs = 1_000;
const name = 'hooks.example.test';

let servers: { close(): unknown }[] = [];
let sockets: Set<Socket>;
let clients: EndpointClient[] = [];

beforeAll(() => void Logger.overrideLogger(false));
beforeEach(() => {
  [servers, clients] = [[], []];
  sockets = new Set();
});
afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
});

/** Makes a server listen on a free port. Gives the port. */
async function listen(server: Server, address = '127.0.0.1', port = 0): Promise<number> {
  servers.push(server);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(port, address, resolve));
  return (server.address() as AddressInfo).port;
}
/** Starts a server that writes what it likes once a request has come in. */
const raw = (answer: (socket: Socket) => void) =>
  listen(createTcpServer((socket) => socket.once('data', () => answer(socket))));
const http = (handle: RequestListener) => listen(createHttpServer(handle));
const tls = (certificate: Certificate, handle: RequestListener, port = 0, address = '127.0.0.1') =>
  listen(createTlsServer({ ...certificate }, handle), address, port);

/** Repeats a write for as long as the connection lasts. */
function endlessly(socket: Socket, text: string, everyMs: number): void {
  const timer = setInterval(() => (socket.destroyed ? clearInterval(timer) : void socket.write(text)), everyMs);
}

/** Writes a beginning, and then one octet again and again as fast as it is read. */
function flood(socket: Socket, beginning: string, octet: string): void {
  const more = octet.repeat(16_384);
  const write = (): void => {
    while (!socket.destroyed && socket.write(more));
  };
  socket.write(beginning);
  socket.on('drain', write);
  write();
}

const body = Buffer.from('{"id":"mdom_1/1"}');
function clientOf(options: Partial<EndpointClientOptions> = {}): EndpointClient {
  const client = new EndpointClient({ resolvers: [], allowLoopback: true, timeoutMs, slowMs: 300, ...options });
  clients.push(client);
  return client;
}
const sent = (url: string, client = clientOf()): Promise<TryResult> =>
  client.send({ webhook: 'whk_1', url, headers: { 'webhook-id': 'mdom_1/1' }, body });

/** A resolver that gives the next of these addresses each time that it is asked; the last one from then on. */
function resolverOf(...addresses: string[][]): Resolver & { asked: number } {
  const resolver = {
    asked: 0,
    a: () => {
      const records = addresses[Math.min(resolver.asked++, addresses.length - 1)]!;
      return Promise.resolve<DnsAnswer<string>>({ kind: 'records', records, aliases: [] });
    },
    aaaa: () => Promise.resolve<DnsAnswer<string>>({ kind: 'nodata', aliases: [] }),
  };
  return resolver;
}

/** What the answers of hostile endpoints lead to: none takes longer than the limit, and none fills memory. */
const answers: Record<
  string,
  { readonly port: () => Promise<number>; readonly expected: Partial<TryResult> | RegExp | string }
> = {
  'never answers': { port: () => raw(() => undefined), expected: /no complete answer within 1 seconds/ },
  'does not even read': {
    port: () => listen(createTcpServer({ pauseOnConnect: true }, () => undefined)),
    expected: /no complete answer within 1 seconds/,
  },
  'answers an octet at a time': {
    port: () =>
      raw((socket) => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n');
        endlessly(socket, 'x', 50);
      }),
    expected: /no complete answer within 1 seconds/,
  },
  'sends an octet of its head at a time': {
    port: () => raw((socket) => (socket.write('HTTP/1.1 200 OK\r\nx: '), endlessly(socket, 'x', 50))),
    expected: /no complete answer within 1 seconds/,
  },
  'sends a body without end': {
    port: () => raw((socket) => flood(socket, 'HTTP/1.1 200 OK\r\n\r\n', 'x')),
    // What it says is clear by then; the rest is not read.
    expected: { isSuccess: true, status: 200, response: Buffer.alloc(1_024, 'x') },
  },
  'sends chunks without end after a refusal': {
    port: () =>
      raw((socket) => {
        socket.write('HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n');
        endlessly(socket, `4000\r\n${'x'.repeat(16_384)}\r\n`, 1);
      }),
    expected: { isSuccess: false, status: 500, response: Buffer.alloc(1_024, 'x') },
  },
  'sends fields without end': {
    port: () =>
      raw((socket) => (socket.write('HTTP/1.1 200 OK\r\n'), endlessly(socket, `x: ${'y'.repeat(1_000)}\r\n`, 1))),
    expected: /head of its answer has more than 16 KiB/,
  },
  'sends a reason phrase without end': {
    port: () => raw((socket) => flood(socket, 'HTTP/1.1 200 ', 'x')),
    expected: /more than 1 MiB/,
  },
  'sends an extension of a chunk without end': {
    port: () => raw((socket) => flood(socket, 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;a=', 'x')),
    expected: /more than 1 MiB/,
  },
  'sends the size of a chunk without end': {
    port: () => raw((socket) => flood(socket, 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n', '0')),
    expected: /more than 1 MiB/,
  },
  'answers by a status that there is not': {
    port: () => raw((socket) => socket.write('HTTP/1.1 099 No\r\ncontent-length: 0\r\n\r\n')),
    expected: 'Its answer is no HTTP/1.1.',
  },
  'says a length that is not that of its body': {
    port: () => raw((socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok')),
    expected: 'The content-length of its answer is wrong.',
  },
  'sends one long field': {
    port: () => raw((socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`)),
    expected: /head of its answer has more than 16 KiB/,
  },
  'sends interim answers without end': {
    port: () => raw((socket) => endlessly(socket, 'HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n'.repeat(5), 1)),
    expected: /more than 16 interim answers/,
  },
  'redirects to the metadata of a cloud': {
    port: () => http((_, response) => response.writeHead(307, { location: 'http://169.254.169.254/latest' }).end()),
    expected: { isSuccess: false, status: 307, error: 'It answered 307, and redirects are not followed.' },
  },
  'closes at once': {
    port: () => listen(createTcpServer((socket) => socket.destroy())),
    expected: /closed the connection/,
  },
  'closes in the middle of its answer': {
    port: () => raw((socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx')),
    expected: /closed the connection without a complete answer/,
  },
  'answers by something else than HTTP': {
    port: () => raw((socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n')),
    expected: /no HTTP\/1.1/,
  },
  'switches the protocol': {
    port: () =>
      raw((socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n')),
    expected: /closed the connection without a complete answer|connection failed/,
  },
  'sends a small body that grows to a gigabyte when it is decoded': {
    port: () => {
      const bomb = gzipSync(Buffer.alloc(32 * 1_024 * 1_024));
      return http((_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb));
    },
    // It is kept as it came.
    expected: { isSuccess: true, status: 200 },
  },
};

it.each(Object.keys(answers))('an endpoint that %s', async (what) => {
  const { port, expected } = answers[what]!;
  const url = `http://127.0.0.1:${await port()}/`;
  const before = process.memoryUsage().rss;
  const begun = performance.now();
  const result = await sent(url);
  expect(performance.now() - begun).toBeLessThan(timeoutMs + 1_000);
  if (expected instanceof RegExp || typeof expected === 'string')
    expect(result).toMatchObject({
      isSuccess: false,
      error: typeof expected === 'string' ? expected : (expect.stringMatching(expected) as string),
    });
  else expect(result).toMatchObject(expected);
  expect(result.response?.length ?? 0).toBeLessThanOrEqual(1_024);
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1_024 * 1_024);
  // Its connection is cut, unless the answer was complete.
  const isOpen = () => [...sockets].some((socket) => !socket.destroyed && !socket.isPaused());
  for (let i = 0; i < 100 && isOpen(); i++) await delay(10);
  if (result.status === null) expect(isOpen()).toBe(false);
});

it('a compressed answer is kept as it came', async () => {
  const packed = gzipSync(Buffer.alloc(1_024 * 1_024));
  const port = await http((_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(packed));
  const { response } = await sent(`http://127.0.0.1:${port}/`);
  expect(response!.equals(packed.subarray(0, 1_024))).toBe(true);
});

it.each([
  [65_536, 1],
  [65_537, 2],
])(
  'of an answer of %i octets, 64 KiB are read, and the connection is kept only where that is all',
  async (size, used) => {
    const port = await http((_, response) => response.writeHead(200).end(Buffer.alloc(size)));
    const client = clientOf();
    for (let i = 0; i < 2; i++)
      expect(await sent(`http://127.0.0.1:${port}/`, client)).toMatchObject({ isSuccess: true });
    expect(sockets.size).toBe(used);
  },
);

it('an endpoint has 15 seconds for its whole answer', async () => {
  const port = await raw((socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx'));
  const client = new EndpointClient({ resolvers: [], allowLoopback: true });
  clients.push(client);
  jest.useFakeTimers({ advanceTimers: true });
  try {
    let result: TryResult | undefined;
    void sent(`http://127.0.0.1:${port}/`, client).then((settled) => (result = settled));
    await jest.advanceTimersByTimeAsync(14_000);
    expect(result).toBeUndefined();
    await jest.advanceTimersByTimeAsync(1_500);
    expect(result).toMatchObject({ isSuccess: false, error: 'It gave no complete answer within 15 seconds.' });
  } finally {
    jest.useRealTimers();
  }
});

it('an endpoint that refuses connections, and one that takes none', async () => {
  const port = await http(() => undefined);
  servers.pop()!.close();
  await delay(20);
  expect(await sent(`http://127.0.0.1:${port}/`)).toMatchObject({ status: null, error: 'It refused the connection.' });
});

it('a connection that was closed while it was idle is replaced at once', async () => {
  let requests = 0;
  const port = await http((_, response) => {
    requests++;
    response.writeHead(204, { 'keep-alive': 'timeout=60' }).end();
  });
  const client = clientOf();
  const url = `http://127.0.0.1:${port}/`;
  expect(await sent(url, client)).toMatchObject({ isSuccess: true });
  const [kept] = sockets;
  // The other side closes just as the next request is sent.
  kept!.removeAllListeners('data');
  kept!.once('data', () => kept!.destroy());
  expect(await sent(url, client)).toMatchObject({ isSuccess: true });
  expect(requests).toBe(2);
});

it.each([
  ['an inner address', 'http://10.0.0.1:8080/'],
  ['an inner address that is mapped into IPv6', 'http://[::ffff:10.0.0.1]:8080/'],
  ['the metadata of a cloud', 'http://169.254.169.254:8080/latest/meta-data'],
  ['all addresses of this machine', 'http://0.0.0.0:8080/'],
])('%s is not connected to', async (_what, url) => {
  expect(await sent(url)).toMatchObject({
    status: null,
    error: expect.stringContaining('not on the public Internet') as string,
  });
});

it('no proxy of the environment is used', async () => {
  let asked = 0;
  const proxy = await http((_, response) => (asked++, response.writeHead(500).end()));
  const port = await http((_, response) => response.writeHead(204).end());
  const names = ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'];
  for (const variable of names) process.env[variable] = `http://127.0.0.1:${proxy}`;
  try {
    expect(await sent(`http://127.0.0.1:${port}/`)).toMatchObject({ isSuccess: true });
  } finally {
    for (const variable of names) delete process.env[variable];
  }
  expect(asked).toBe(0);
});

describe('a name', () => {
  /** Stands in for the rule of addresses: 127.0.0.2 counts as one of the Internet, and 127.0.0.1 as one of our own. */
  const check = (host: string, addresses: readonly string[]) => {
    if (addresses.some((address) => address !== '127.0.0.2')) throw new TargetRefused(`${host} is refused.`);
  };
  const at = (url: string, resolver: Resolver) => sent(url, clientOf({ resolvers: [resolver], check }));

  it('that changes its address between check and connection leads to the one that was checked', async () => {
    const reached: string[] = [];
    const note: RequestListener = (request, response) => {
      reached.push(request.socket.localAddress!);
      response.writeHead(204).end();
    };
    const port = await listen(createHttpServer(note), '127.0.0.2');
    await listen(createHttpServer(note), '127.0.0.1', port);
    const resolver = resolverOf(['127.0.0.2'], ['127.0.0.1']);
    expect(await at(`http://${name}:${port}/`, resolver)).toMatchObject({ isSuccess: true });
    expect([reached, resolver.asked]).toEqual([['127.0.0.2'], 1]);
    // The next connection asks anew, and goes nowhere.
    expect(await at(`http://${name}:${port}/`, resolver)).toMatchObject({ error: `${name} is refused.` });
    expect(reached).toHaveLength(1);
  });

  it('that led into our house is refused, and taken when it leads out', async () => {
    const port = await listen(
      createHttpServer((_, response) => response.writeHead(204).end()),
      '127.0.0.2',
    );
    const resolver = resolverOf(['127.0.0.1'], ['127.0.0.2']);
    expect(await at(`http://${name}:${port}/`, resolver)).toMatchObject({ error: `${name} is refused.` });
    expect(await at(`http://${name}:${port}/`, resolver)).toMatchObject({ isSuccess: true });
  });

  it('one of whose addresses is inside is refused', async () => {
    const port = await listen(
      createHttpServer(() => undefined),
      '127.0.0.2',
    );
    const resolver = resolverOf(['127.0.0.2', '127.0.0.1']);
    expect(await at(`http://${name}:${port}/`, resolver)).toMatchObject({ error: `${name} is refused.` });
    expect(sockets.size).toBe(0);
  });

  it('is looked up by another resolver where one does not answer, and is tried again where none does', async () => {
    const port = await listen(
      createHttpServer((_, response) => response.writeHead(204).end()),
      '127.0.0.2',
    );
    const silent: DnsAnswer<string> = { kind: 'unreachable', reason: 'no answer' };
    const broken = { a: () => Promise.resolve(silent), aaaa: () => Promise.resolve(silent) };
    const resolvers = [broken, resolverOf(['127.0.0.2'])];
    expect(await sent(`http://${name}:${port}/`, clientOf({ resolvers, check }))).toMatchObject({ isSuccess: true });
    expect(await sent(`http://${name}:${port}/`, clientOf({ resolvers: [broken], check }))).toMatchObject({
      error: `The addresses of ${name} could not be looked up.`,
    });
  });
});

it('hundreds of names whose servers never answer hold the look-up of no other one up', async () => {
  const port = await http((_, response) => response.writeHead(204).end());
  const resolver = createHttp2Server().on('stream', (stream, request) => {
    stream.on('error', () => undefined);
    const dns = new URL(request[':path']!, 'http://x').searchParams.get('dns')!;
    const { questions } = packet.decode(Buffer.from(dns, 'base64url'));
    const [{ name: asked, type }] = questions as [packet.Question];
    if (asked !== name) return;
    stream.respond({ ':status': 200, 'content-type': 'application/dns-message' });
    const answers: packet.Answer[] = type === 'A' ? [{ type, name, data: '127.0.0.1' }] : [];
    stream.end(packet.encode({ type: 'response', id: 0, questions: questions!, answers }));
  });
  const resolvers = resolversAt([`http://127.0.0.1:${await listen(resolver)}/dns-query`], 3_000);
  const client = clientOf({ resolvers, check: () => undefined, timeoutMs: 5_000 });
  const under = Array.from({ length: 400 }, (_, i) =>
    client.send({ webhook: `whk_${i}`, url: `http://silent${i}.example.test:${port}/`, headers: {}, body }),
  );
  await delay(100);
  const { isSuccess, durationMs } = await client.send({
    webhook: 'whk_good',
    url: `http://${name}:${port}/`,
    headers: {},
    body,
  });
  expect(isSuccess).toBe(true);
  expect(durationMs).toBeLessThan(2_000);
  await client.close();
  for (const each of resolvers) each.close();
  await Promise.all(under);
});

/** Skipped where BIND is not installed: tools/install-counterparts. */
(bindIsInstalled() ? describe : describe.skip)('a name of a real BIND', () => {
  let bind: Bind;
  let doh: DohClient;

  beforeAll(async () => {
    bind = await startBind([], {
      'example.test': `$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
inner A 10.0.0.1
metadata A 169.254.169.254
alias CNAME localhost.example.test.
localhost A 127.0.0.1
localhost AAAA ::1
mapped AAAA ::ffff:10.0.0.1
translated AAAA 64:ff9b::a00:1
both A 93.184.215.14
both AAAA fd00::1
text TXT "no address"
`,
    });
    doh = new DohClient({ url: bind.dohUrl });
  });
  afterAll(() => {
    doh?.close();
    bind?.stop();
  });

  it.each([
    ['inner', '10.0.0.1'],
    ['metadata', '169.254.169.254'],
    ['alias', '127.0.0.1'],
    ['localhost', '127.0.0.1'],
    ['mapped', '::ffff:a00:1'],
    ['translated', '64:ff9b::a00:1'],
    ['both', 'fd00::1'],
  ])('%s is refused for its address %s', async (label, address) => {
    const client = clientOf({ resolvers: [doh], allowLoopback: false });
    const { error, status } = await sent(`https://${label}.example.test/`, client);
    expect(status).toBeNull();
    expect(error).toMatch(/^\S+ has the address \S+, which is not on the public Internet\.$/);
    if (!address.includes(':')) expect(error).toContain(address);
  });

  it.each(['text', 'nobody'])('%s has no address', async (label) => {
    const client = clientOf({ resolvers: [doh], allowLoopback: false });
    const { error } = await sent(`https://${label}.example.test/`, client);
    expect(error).toBe(`${label}.example.test has no address in the DNS.`);
  });
});

/** Skipped where there is no openssl. */
(opensslIsInstalled() ? describe : describe.skip)('over TLS', () => {
  let certificates: Certificates;
  const answered: RequestListener = (request, response) => response.writeHead(200).end(request.headers.host);
  const resolvers = [resolverOf(['127.0.0.1'])];
  const trusting = () => clientOf({ resolvers, ca: certificates.ca });

  beforeAll(async () => {
    certificates = certificatesFor(name);
    // The expired one ends in the second in which it is made.
    await delay(1_100);
  });

  it('a certificate for the name is taken, and the name is sent', async () => {
    let servername: unknown;
    const server = createTlsServer(
      { ...certificates.good, SNICallback: (asked, done) => ((servername = asked), done(null)) },
      answered,
    );
    const port = await listen(server);
    const result = await sent(`https://${name}:${port}/`, trusting());
    expect(result).toMatchObject({ isSuccess: true, response: Buffer.from(`${name}:${port}`) });
    expect(servername).toBe(name);
  });

  it.each<[string, keyof Omit<Certificates, 'ca'>, string, string]>([
    ['for another name', 'good', 'other.example.test', 'Its certificate is for another name.'],
    ['that has expired', 'expired', name, 'Its certificate has expired.'],
    ['that is self-signed', 'selfSigned', name, 'Its certificate is self-signed.'],
  ])('one %s is refused before anything is sent', async (_what, which, host, error) => {
    let requests = 0;
    const port = await tls(certificates[which], () => requests++);
    expect(await sent(`https://${host}:${port}/`, trusting())).toMatchObject({ status: null, error });
    expect(requests).toBe(0);
  });

  it('one of an authority that nobody trusts is refused', async () => {
    const port = await tls(certificates.good, answered);
    expect(await sent(`https://${name}:${port}/`, clientOf({ resolvers }))).toMatchObject({
      error: expect.stringContaining('not trusted') as string,
    });
  });

  it('a handshake that does not end is cut', async () => {
    const port = await listen(createTcpServer(() => undefined));
    const begun = performance.now();
    expect(await sent(`https://${name}:${port}/`, trusting())).toMatchObject({ isSuccess: false, status: null });
    expect(performance.now() - begun).toBeLessThan(timeoutMs + 1_000);
  });

  it('an answer without end is cut as well', async () => {
    const port = await listen(
      createSecureServer({ ...certificates.good }, (socket) =>
        socket.on('error', () => undefined).once('data', () => flood(socket, 'HTTP/1.1 200 ', 'x')),
      ),
    );
    expect(await sent(`https://${name}:${port}/`, trusting())).toMatchObject({
      error: 'Its answer has more than 1 MiB.',
    });
  });

  it('an endpoint that speaks without TLS is refused', async () => {
    const port = await http(answered);
    expect(await sent(`https://${name}:${port}/`, trusting())).toMatchObject({ isSuccess: false, status: null });
  });
});

it('none of them delays another endpoint', async () => {
  const database = await migratedDatabase('service');
  const pool = openPool(database.url);
  const good = await startEndpoint();
  const lanes = new WebhookLanes(pool);
  const workers = new LaneWorkers({
    lanes,
    keys: webhookKeys,
    client: clientOf({ timeoutMs: 3_000 }),
    messages: {
      bodies: (wanted) => Promise.resolve(new Map(wanted.map(({ message }) => [message, Buffer.from('{}')]))),
      testBody: () => Buffer.from('{}'),
    },
    tries: { steady: 12, troubled: 4, down: 4, all: 100 },
  });
  const deliveries = new WebhookDeliveries(pool, (added) => workers.wake(added));
  try {
    for (const { port } of Object.values(answers)) await addWebhook(pool, { url: `http://127.0.0.1:${await port()}/` });
    await addWebhook(pool, { url: good.url });
    workers.run();
    const delays: number[] = [];
    for (let version = 1; version <= 40; version++) {
      const all = Array.from({ length: 5 }, (_, i) => messageOf(`mdom_${i}`, version));
      await Promise.all(all.map((message) => deliveries.enqueue(message)));
      const begun = performance.now();
      while (good.arrivals.length < version * 5) {
        if (performance.now() - begun > 10_000) throw new Error('it does not arrive');
        await delay(2);
      }
      delays.push(performance.now() - begun);
      await delay(20);
    }
    // One that waited for a place would take as long as the others take.
    expect(delays.sort((a, b) => a - b)[35]).toBeLessThan(700);
  } finally {
    await workers.stop(0);
    await good.close();
    await pool.end();
    await database.drop();
  }
});
