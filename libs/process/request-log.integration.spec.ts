import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { logLines } from '@app/runtime';
import { runIn, traceIds, type Span } from '@app/tracing';
import { fastify, type FastifyInstance } from 'fastify';
import { runningRequest, RequestLog } from './request-log';

interface Line {
  readonly level: number;
  readonly app: string;
  readonly request_id: string;
  readonly req: { readonly method: string; readonly url: string };
  readonly res: { readonly status: number | null };
  readonly responseTime: number;
  readonly msg: string;
}

let lines: Line[];
let server: FastifyInstance;
let said: object;
let saidBefore: object;
/** The span that all requests are below. */
const span = { ids: { trace_id: 'a'.repeat(32), span_id: 'b'.repeat(16) } } as Span;

async function serve(level: string): Promise<void> {
  server = fastify({
    serverFactory: (handler) => createServer((request, response) => runIn(span, () => handler(request, response))),
  });
  new RequestLog('gateway', level).followIn(server);
  server.addHook('onRequest', async () => {
    saidBefore = runningRequest();
    await Promise.resolve();
  });
  server.get('/ok', ({ raw }) => {
    raw.url = '/changed';
    return { said: (said = runningRequest()) };
  });
  server.post('/body', () => ({ said: (said = { ...runningRequest(), ...traceIds() }) }));
  server.get('/health/live', () => ({}));
  server.get('/broken', (_, reply) => reply.status(503).send({}));
  server.get('/slow', () => new Promise(() => undefined));
  const large = 'x'.repeat(50_000_000);
  server.post('/large', () => large);
  server.post('/large-failure', (_, reply) => reply.status(503).send(large));
  server.post('/slow', () => new Promise(() => undefined));
  await server.listen({ port: 0, host: '127.0.0.1' });
}
const origin = () => `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`;

/** Waits for the lines of requests, which come after their answers. */
async function logged(count: number): Promise<Line[]> {
  for (const until = Date.now() + 5_000; lines.length < count && Date.now() < until;)
    await new Promise((done) => setTimeout(done, 5));
  return lines;
}

beforeEach(() => {
  lines = [];
  jest.spyOn(logLines, 'write').mockImplementation((line) => lines.push(JSON.parse(line) as Line));
});
afterEach(async () => {
  jest.restoreAllMocks();
  server.server.closeAllConnections();
  await server.close();
});

it('logs one line for each request, without keys and addresses', async () => {
  await serve('info');
  await fetch(`${origin()}/ok?key=smx_root_abc123&of=ada%40acme.com`, { headers: { 'x-request-id': 'asked-by-me' } });
  await fetch(`${origin()}/nothing`);
  const [ok, nothing] = await logged(2);
  expect(ok).toMatchObject({
    level: 30,
    app: 'gateway',
    request_id: 'asked-by-me',
    req: { method: 'GET', url: '/ok?key=smx_[hidden]&of=[address]' },
    res: { status: 200 },
    ...span.ids,
    msg: 'request completed',
  });
  expect(ok!.responseTime).toBeGreaterThanOrEqual(0);
  expect(nothing).toMatchObject({ res: { status: 404 }, msg: 'request completed' });
  expect(nothing!.request_id).toMatch(/^req_/);
});

it('names the request in what is logged meanwhile, also once its body was read', async () => {
  await serve('info');
  await fetch(`${origin()}/ok`, { headers: { 'x-request-id': 'asked-by-me' } });
  expect([saidBefore, said]).toEqual([{ request_id: 'asked-by-me' }, { request_id: 'asked-by-me' }]);
  const { port } = server.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  for (const id of ['in-two-parts-1', 'in-two-parts-2']) {
    const head = `POST /body HTTP/1.1\r\nhost: a\r\nx-request-id: ${id}\r\ncontent-type: application/json\r\n`;
    socket.write(`${head}content-length: 2\r\n\r\n{`);
    await new Promise((done) => setTimeout(done, 50));
    socket.write('}');
    await once(socket, 'data');
    expect(said).toEqual({ request_id: id, ...span.ids });
  }
  socket.destroy();
  expect(runningRequest()).toEqual({});
});

it.each([
  ['', 'GET /slow HTTP/1.1\r\nhost: a\r\n\r\n'],
  [
    ' once its body was read',
    'POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}',
  ],
  [
    ' while its body was read',
    'POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{',
  ],
])('says of a request whose client has gone%s that it was aborted, without a status', async (_when, sent) => {
  await serve('info');
  const { port } = server.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  socket.write(sent);
  await new Promise((done) => setTimeout(done, 50));
  socket.destroy();
  expect(await logged(1)).toMatchObject([{ level: 30, res: { status: null }, msg: 'request aborted' }]);
});

it.each([
  ['/large', 200, 30],
  ['/large-failure', 503, 40],
])('says that %s was aborted where the client has gone before it had the whole answer', async (path, status, level) => {
  await serve('info');
  const { port } = server.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  socket.write(`POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}`);
  await once(socket, 'readable');
  socket.destroy();
  expect(await logged(1)).toMatchObject([{ level, res: { status }, msg: 'request aborted' }]);
});

it('leaves out the requests of operators', async () => {
  await serve('info');
  await fetch(`${origin()}/health/live`);
  await fetch(`${origin()}/ok`);
  expect(await logged(1)).toMatchObject([{ req: { url: '/ok' } }]);
});

it('logs a failure as a warning, which is all that the level of warnings has', async () => {
  await serve('warn');
  await fetch(`${origin()}/ok`);
  await fetch(`${origin()}/broken`);
  expect(await logged(1)).toMatchObject([{ level: 40, res: { status: 503 }, msg: 'request completed' }]);
});
