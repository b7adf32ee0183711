import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { logLines } from '@app/runtime';
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

async function serve(level: string): Promise<void> {
  server = fastify();
  new RequestLog('gateway', level).followIn(server);
  server.get('/ok', () => ({ said: (said = runningRequest()) }));
  server.post('/body', () => ({ said: (said = runningRequest()) }));
  server.get('/health/live', () => ({}));
  server.get('/broken', (_, reply) => reply.status(503).send({}));
  server.get('/slow', () => new Promise(() => undefined));
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
    msg: 'request completed',
  });
  expect(ok!.responseTime).toBeGreaterThanOrEqual(0);
  expect(nothing).toMatchObject({ res: { status: 404 }, msg: 'request completed' });
  expect(nothing!.request_id).toMatch(/^req_/);
});

it('names the request in what is logged meanwhile, also once its body was read', async () => {
  await serve('info');
  await fetch(`${origin()}/ok`, { headers: { 'x-request-id': 'asked-by-me' } });
  expect(said).toEqual({ request_id: 'asked-by-me' });
  const { port } = server.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  const head = 'POST /body HTTP/1.1\r\nhost: a\r\nx-request-id: in-two-parts\r\ncontent-type: application/json\r\n';
  socket.write(`${head}content-length: 2\r\n\r\n{`);
  await new Promise((done) => setTimeout(done, 50));
  socket.write('}');
  await once(socket, 'data');
  socket.destroy();
  expect(said).toEqual({ request_id: 'in-two-parts' });
  expect(runningRequest()).toEqual({});
});

it('says of a request whose client has gone that it was aborted, without a status', async () => {
  await serve('info');
  const { port } = server.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  socket.write('GET /slow HTTP/1.1\r\nhost: a\r\n\r\n');
  await new Promise((done) => setTimeout(done, 50));
  socket.destroy();
  expect(await logged(1)).toMatchObject([{ level: 30, res: { status: null }, msg: 'request aborted' }]);
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
