import type { LevelWithSilent } from 'pino';
import { Logger } from '@nestjs/common';
import fc from 'fast-check';
import { pathsOf, type OpenApi, type Operation } from '../../test/support/api-contract';
import { startGateway, type Answer, type TestGateway } from '../../test/support/gateway';
import { hidden, hostilePieces, hostileText } from '../../test/support/hostile-texts';
import { migratedDatabase } from '../../test/support/migrated-database';
import { sample } from '../../test/support/sample';
import type { TestDatabase } from '../../test/support/test-database';

const mockLogged: string[] = [];
jest.mock('pino', () => {
  const actual = jest.requireActual<typeof import('pino')>('pino');
  // The log goes to standard output; here it is kept.
  return Object.assign(actual, { destination: () => ({ write: (line: string) => mockLogged.push(line) }) });
});

let database: TestDatabase;
let gateway: TestGateway;
let document: OpenApi;
let operations: (readonly [method: string, path: string, operation: Operation & { parameters?: Parameter[] }])[];
let key: string;
let ids: Record<string, string>;

interface Parameter {
  readonly in: 'path' | 'query' | 'header';
  readonly name: string;
}

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url, { LOG_LEVEL: 'info' as LevelWithSilent as 'silent' });
  document = JSON.parse((await gateway.call('GET', '/api/v1/openapi.json')).text) as OpenApi;
  operations = Object.entries(pathsOf(document)).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => [method.toUpperCase(), path, operation as never] as const),
  );
  ({ key } = await gateway.key());
  const call = async (path: string, body: object) =>
    (await gateway.call('POST', `/api/v1${path}`, { key, body })).body.data.id;
  const domain = await call('/domains', { domain: 'mail.acme.com' });
  await gateway.call('POST', `/api/v1/domains/${domain}/verify`, { key });
  ids = {
    domains: domain,
    mailboxes: await call('/mailboxes', { email: 'ada@mail.acme.com' }),
    webhooks: await call('/webhooks', { url: 'https://hooks.acme.com' }),
  };
});
afterAll(async () => {
  await gateway.close();
  await database.drop();
});

interface Request {
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** The fields that a body may have, with their examples. */
function fieldsOf({ requestBody }: Operation): Record<string, unknown> | undefined {
  const reference = requestBody?.content['application/json']?.schema.$ref;
  if (reference === undefined) return undefined;
  const { properties } = document.components.schemas[reference.split('/').at(-1)!] as {
    properties: Record<string, { example?: unknown }>;
  };
  return Object.fromEntries(Object.entries(properties).map(([name, { example }]) => [name, example]));
}

/** Makes the requests of an operation with a text in one place each: in its path, its query, its headers, its body. */
function* requestsWith(text: string, path: string, operation: (typeof operations)[number][2]): Generator<Request> {
  const filled = (name?: string) =>
    path.replace(/\{(\w+)\}/g, (_, each: string) =>
      each === name ? encodeURIComponent(text) : (ids[path.split('/')[3]!] ?? 'x'),
    );
  const fields = fieldsOf(operation);
  const body = fields && Object.fromEntries(Object.entries(fields).filter(([, example]) => example !== undefined));
  const encoded = encodeURIComponent(text);
  for (const { in: where, name } of operation.parameters ?? []) {
    if (where === 'path') yield { path: filled(name), body };
    if (where === 'query') yield { path: `${filled()}?${name}=${encoded}`, body };
  }
  yield { path: `${filled()}?${encoded}=${encoded}`, body };
  const latin = text.replace(/[^\x20-\x7e\x80-\xff]/g, '~');
  const headers = ['x-request-id', 'if-match', 'if-none-match', 'idempotency-key', 'user-agent', 'cookie', 'origin'];
  yield { path: filled(), body, headers: Object.fromEntries(headers.map((name) => [name, latin])) };
  for (const name of Object.keys(fields ?? {})) {
    yield { path: filled(), body: { ...body, [name]: text } };
    yield { path: filled(), body: { ...body, [name]: { [text]: text } } };
  }
  // A literal of JavaScript would set the prototype in place of a field.
  if (fields) yield { path: filled(), body: `{${JSON.stringify(text)}:{"polluted":1},"__proto__":{"polluted":1}}` };
}

it('no text, wherever it stands in a request, is a fault of ours', async () => {
  const count = sample(2, hostilePieces.length);
  let requests = 0;
  const faults: unknown[] = [];
  for (const [i, [method, path, operation]] of operations.entries()) {
    if (method === 'DELETE' && path.endsWith('/session')) continue;
    const texts = Array.from({ length: count }, (_, j) => hostilePieces[(i * count + j) % hostilePieces.length]!);
    for (const text of texts)
      for (const { path: at, body, headers } of requestsWith(text, path, operation)) {
        const call = { key, ...(body !== undefined && { body }), ...(headers && { headers }) };
        const answer: Answer = await gateway.call(method, at, call);
        requests++;
        // What was created is below our own path, and nothing else leads anywhere.
        const leads = answer.headers.get('location') ?? '/api/v1/x';
        if (answer.status === 500 || answer.status === 502 || !/^\/api\/v1\/[\w/]+$/.test(leads))
          faults.push([method, at, body, answer.status, leads, answer.text]);
      }
  }
  expect(faults).toEqual([]);
  expect(requests).toBeGreaterThan(500);
  expect(({} as { polluted?: number }).polluted).toBeUndefined();
  expect(Object.keys(Object.prototype)).toEqual([]);
  expect(mockLogged.length).toBeGreaterThan(requests);
});

it('no text makes another line of the log, nor has a line with what a terminal acts on', () => {
  const logger = new Logger('test');
  const logged = (run: () => void): string[] => {
    const from = mockLogged.length;
    run();
    return mockLogged.slice(from);
  };
  fc.assert(
    fc.property(hostileText, (text) => {
      const [line, ...more] = logged(() => logger.warn({ said: text, [`${text}x`]: [text] }, text));
      expect(more).toEqual([]);
      expect(JSON.parse(line!)).toMatchObject({ app: 'gateway', said: text, context: 'test' });
    }),
  );
  fc.assert(
    fc.property(hostileText, (text) => {
      const [line] = logged(() => logger.error(Object.assign(new Error(text), { stack: text })));
      expect(JSON.parse(line!)).toMatchObject({ app: 'gateway' });
    }),
  );
  for (const line of mockLogged) {
    expect(line.slice(0, -1)).not.toMatch(hidden);
    expect(line.endsWith('\n')).toBe(true);
    expect(JSON.parse(line)).toMatchObject({ app: 'gateway', time: expect.any(String) as string });
  }
});

it('no text is in the metrics, which have a fixed set of labels', async () => {
  const { text } = await gateway.call('GET', '/metrics');
  const lines = text.split('\n').filter((line) => line !== '');
  expect(lines.length).toBeGreaterThan(100);
  const label = String.raw`[a-z_]+="[\x20-\x21\x23-\x5b\x5d-\x7e]*"`;
  const form = new RegExp(String.raw`^(#.*|[a-z_:0-9]+(\{${label}(,${label})*\})? (-?[\d.e+-]+|NaN|[+-]Inf))$`);
  for (const line of lines) expect(line).toMatch(form);
  expect(lines.filter((line) => /<script|onerror|passwd|OR 1=1|__proto__|sendmux_up/.test(line))).toEqual([]);
});
