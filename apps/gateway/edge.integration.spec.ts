import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { timeLimits } from '@app/process';
import { Pool } from 'pg';
import { answerIn, exchange, open, untilClosed, type RawAnswer } from '../../test/support/raw-http';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let hasty: TestGateway;
let pool: Pool;
let key: string;

beforeAll(async () => {
  database = await migratedDatabase('service');
  pool = new Pool({ connectionString: database.url });
  gateway = await startGateway(database.url);
  hasty = await startGateway(database.url, {}, { headMs: 300, requestMs: 600, checkEveryMs: 50 });
  ({ key } = await gateway.key());
});

afterAll(async () => {
  await gateway.close();
  await hasty.close();
  await pool.end();
  await database.drop();
});

const portOf = ({ app }: TestGateway) => (app.getHttpServer().address() as AddressInfo).port;
const head = (line: string, ...fields: string[]) =>
  [`${line} HTTP/1.1`, 'host: localhost', ...fields, '', ''].join('\r\n');
const withKey = () => `authorization: Bearer ${key}`;
const post = (path: string, body: string | Buffer, ...fields: string[]) =>
  Buffer.concat([
    Buffer.from(
      head(`POST ${path}`, withKey(), 'connection: close', `content-length: ${Buffer.byteLength(body)}`, ...fields),
    ),
    Buffer.from(body),
  ]);
const ask = async (sent: string | Buffer, from = gateway) => answerIn(await exchange(portOf(from), sent));

/** Expects an error in the envelope, with the headers that every answer has. */
function expectError({ status, headers, body }: RawAnswer, expected: [status: number, code: string]): void {
  expect([status, body.error.code]).toEqual(expected);
  expect(body).toMatchObject({ ok: false, meta: { request_id: headers.get('x-request-id') } });
  expect(headers.get('content-type')).toBe('application/json; charset=utf-8');
  expect(headers.get('cache-control')).toBe('no-store');
  expect(headers.get('x-content-type-options')).toBe('nosniff');
}

let count = 0;
const fresh = async (): Promise<string> => {
  const body = { domain: `edge${++count}.acme.com` };
  return (await gateway.call('POST', '/api/v1/domains', { key, body })).body.data.id;
};

describe('N8: a request that does not come in whole', () => {
  const accept = head('POST /api/v1/invitations/accept', 'content-type: application/json', 'content-length: 100');

  it('is refused within a minute', () => {
    const { headMs, requestMs, checkEveryMs } = timeLimits;
    expect(headMs + checkEveryMs).toBeLessThan(60_000);
    expect(requestMs + checkEveryMs).toBeLessThan(60_000);
  });

  it('keeps a connection between requests longer than a load balancer does', async () => {
    const response = await fetch(`http://127.0.0.1:${portOf(gateway)}/health/live`);
    expect(Number(/timeout=(\d+)/.exec(response.headers.get('keep-alive')!)![1])).toBeGreaterThan(60);
  });

  it.each([
    ['a body that stalls', `${accept}{"token":`],
    ['a body without an octet', accept],
    ['a head that stalls', 'GET / HTTP/1.1\r\nhost: loc'],
    [
      'a chunk that stalls',
      head('POST /api/v1/invitations/accept', 'content-type: application/json', 'transfer-encoding: chunked') +
        '5\r\n{"',
    ],
  ])('%s is 408, and closed', async (_what, sent) => {
    expectError(await ask(sent, hasty), [408, 'request_timeout']);
  });

  it.each([
    ['body', accept],
    ['head', 'GET / HTTP/1.1\r\nhost: localhost\r\nx: '],
  ])('a %s that drips is 408, and closed', async (_what, sent) => {
    const socket = await open(portOf(hasty), sent);
    const drip = setInterval(() => socket.write(' '), 30);
    const answer = answerIn(await untilClosed(socket));
    clearInterval(drip);
    expectError(answer, [408, 'request_timeout']);
  });

  it('who says nothing gets no answer, and is closed', async () => {
    expect(await exchange(portOf(hasty), '')).toBe('');
  });

  it('who has an answer gets no second one', async () => {
    // Refused for its key, before its body is read.
    const sent = head('POST /api/v1/domains', 'content-type: application/json', 'content-length: 100');
    const text = await exchange(portOf(hasty), sent);
    expect(text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(answerIn(text).status).toBe(401);
  });

  it('who waits for an answer gets that one, whatever came after the request', async () => {
    const name = `edge${++count}.acme.com`;
    const own = await hasty.key();
    for (const each of [gateway, hasty]) each.plans.set(name, 'ignore');
    const body = JSON.stringify({ domain: name });
    const fields = [
      `authorization: Bearer ${own.key}`,
      'content-type: application/json',
      `content-length: ${body.length}`,
    ];
    const socket = await open(portOf(hasty), `${head('POST /api/v1/domains', ...fields)}${body}no request\r\n\r\n`);
    const text = untilClosed(socket);
    await delay(300);
    const { rows } = await pool.query<{ id: string }>('SELECT id FROM domains WHERE name = $1', [name]);
    await gateway.provision(rows[0]!.id);
    expect((await text).startsWith('HTTP/1.1 201 ')).toBe(true);
  });
});

const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;

describe('N9: a body that is nested deeply', () => {
  it.each(['/api/v1/invitations/accept', '/api/v1/domains', '/api/v1/mailboxes', '/api/v1/domains/preflight'])(
    'is 400 at POST %s',
    async (path) => {
      for (const depth of [17, 1_400, 30_000])
        for (const body of [`{"token":${nested(depth)}}`, `{"domain":${'{"a":'.repeat(Math.min(depth, 10_000))}1`]) {
          const answer = await ask(post(path, body, 'content-type: application/json'));
          expectError(answer, [400, 'invalid_parameter']);
        }
    },
  );

  it('is measured outside of strings only', async () => {
    const body = { domain: `${'['.repeat(50)}"\\` };
    const answer = await gateway.call('POST', '/api/v1/domains', { key, body });
    expect(answer.body.error.message).not.toContain('nested');
  });
});

describe('N10: an error answer', () => {
  it.each([
    ['many unknown fields', () => `{${Array.from({ length: 6_000 }, (_, i) => `"f${i}":1`).join()}}`],
    ['one long field', () => `{"${'\\u0001'.repeat(10_000)}":1}`],
    [
      'many fields that JSON has to escape',
      () => `{${Array.from({ length: 3_000 }, (_, i) => `"\\u0001${i}":1`).join()}}`,
    ],
  ])('stays small after %s', async (_what, body) => {
    const text = await exchange(portOf(gateway), post('/api/v1/domains', body(), 'content-type: application/json'));
    expectError(answerIn(text), [400, 'invalid_parameter']);
    expect(Buffer.byteLength(text)).toBeLessThan(32_768);
  });

  it('stays small after many unknown query parameters, and a long path', async () => {
    const query = Array.from({ length: 3_000 }, (_, i) => `a${i}`).join('&');
    for (const path of [`/api/v1/domains?${query}`, `/api/v1/${'x'.repeat(15_000)}`]) {
      const text = await exchange(portOf(gateway), head(`GET ${path}`, withKey(), 'connection: close'));
      expect(Buffer.byteLength(text)).toBeLessThan(32_768);
      expect(answerIn(text).status).toBeGreaterThanOrEqual(400);
    }
  });
});

describe('N11: a client that hangs up', () => {
  it.each(['destroy', 'resetAndDestroy', 'end'] as const)('in its body, by %s, is no error of ours', async (how) => {
    const errors: unknown[][] = [];
    const note = (...said: unknown[]) => void errors.push(said);
    const logger = { log: () => undefined, warn: note, error: note, fatal: note };
    Logger.overrideLogger(logger);
    const fields = [withKey(), 'content-type: application/json', 'content-length: 100'];
    const socket = await open(portOf(gateway), `${head('POST /api/v1/domains', ...fields)}{"domain":`);
    await delay(100);
    socket[how]();
    await untilClosed(socket);
    await delay(200);
    Logger.overrideLogger(false);
    expect(errors).toEqual([]);
  });
});

describe('R1: no content has no type', () => {
  it.each([
    ['a form', 'content-type: application/x-www-form-urlencoded'],
    ['text', 'content-type: text/plain'],
    ['octets', 'content-type: application/octet-stream'],
    ['what is no type', 'content-type: nothing'],
    ['JSON in another charset', 'content-type: application/json; charset=iso-8859-1'],
    ['no type', 'x-nothing: 0'],
  ])('%s of length 0, or chunked without an octet, is the usual answer', async (_what, type) => {
    const id = await fresh();
    for (const [fields, body] of [
      [['content-length: 0'], ''],
      [['transfer-encoding: chunked'], '0\r\n\r\n'],
    ] as const) {
      const lines = [withKey(), type, 'connection: close', ...fields];
      expect((await ask(head(`POST /api/v1/domains/${id}/verify`, ...lines) + body)).status).toBe(200);
      expectError(await ask(head('POST /api/v1/mailboxes', ...lines) + body), [400, 'missing_parameter']);
    }
    const lines = [withKey(), type, 'connection: close', 'content-length: 0'];
    expect((await ask(head(`DELETE /api/v1/domains/${id}`, ...lines))).status).toBe(200);
  });

  it.each([
    ['a form', 'content-type: application/x-www-form-urlencoded'],
    ['what is no type', 'content-type: nothing'],
    ['no type', 'x-nothing: 0'],
  ])('%s with an octet is 415', async (_what, type) => {
    expectError(await ask(post('/api/v1/domains', 'a', type)), [415, 'unsupported_media_type']);
  });
});

describe('R2: a body of null', () => {
  it('is none, where no body is expected', async () => {
    const id = await fresh();
    const call = { key, body: 'null' };
    expect((await gateway.call('POST', `/api/v1/domains/${id}/verify`, call)).status).toBe(200);
    expect((await gateway.call('DELETE', `/api/v1/domains/${id}`, call)).status).toBe(200);
    const { body } = await gateway.call('POST', '/api/v1/domains', call);
    expect(body.error.message).toBe('The body must be a JSON object.');
  });

  it('is the only one that is none', async () => {
    const id = await fresh();
    for (const body of ['[]', '0', 'false', '""', '[null]'])
      expect((await gateway.call('POST', `/api/v1/domains/${id}/verify`, { key, body })).status).toBe(400);
  });
});

describe('R3: JSON is UTF-8', () => {
  const mailbox = (...local: number[]) =>
    Buffer.concat([Buffer.from('{"address":"a'), Buffer.from(local), Buffer.from('@mail.acme.com"}')]);

  it.each([
    ['ISO 8859-1', [0xfc]],
    ['an overlong form', [0xc0, 0xaf]],
    ['a cut character', [0xe2, 0x82]],
    ['half of a surrogate pair', [0xed, 0xa0, 0x80]],
    ['beyond U+10FFFF', [0xf4, 0x90, 0x80, 0x80]],
  ])('%s is 400', async (_what, octets) => {
    const answer = await ask(post('/api/v1/mailboxes', mailbox(...octets), 'content-type: application/json'));
    expectError(answer, [400, 'invalid_parameter']);
    expect(answer.body.error.message).toContain('UTF-8');
  });

  it('half of a surrogate pair is 400 when it is escaped, too', async () => {
    const body = '{"address":"\\ud800@mail.acme.com"}';
    const answer = await ask(post('/api/v1/mailboxes', body, 'content-type: application/json'));
    expectError(answer, [400, 'invalid_parameter']);
    expect(answer.body.error.message).toContain('surrogate');
  });

  it.each(['iso-8859-1', '"ISO-8859-1"', 'utf-16', 'us-ascii', ''])('charset=%s is 415', async (charset) => {
    const type = `content-type: application/json; charset=${charset}`;
    expectError(await ask(post('/api/v1/domains', '{}', type)), [415, 'unsupported_media_type']);
  });

  it.each(['utf-8', 'UTF-8', '"utf-8"', 'utf8'])('charset=%s is taken', async (charset) => {
    const type = `content-type: application/json; charset=${charset}`;
    expectError(await ask(post('/api/v1/domains', '{}', type)), [400, 'missing_parameter']);
  });
});

describe('R14: HTTP as RFC 9110 and RFC 9112 have it', () => {
  it.each(['QUERY', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND'])('%s of a path that is there is 405', async (method) => {
    const answer = await ask(head(`${method} /api/v1/domains`, withKey(), 'connection: close'));
    expectError(answer, [405, 'method_not_allowed']);
    expect(answer.headers.get('allow')).toBe('GET, HEAD, POST');
  });

  it('QUERY of a path that is not there is 404', async () => {
    expectError(await ask(head('QUERY /api/v1/x', withKey(), 'connection: close')), [404, 'not_found']);
  });

  it('a method that nobody knows is 501', async () => {
    expectError(await ask(head('FETCH /api/v1/domains', withKey(), 'connection: close')), [501, 'method_not_allowed']);
    expectError(await ask(head('CONNECT localhost:80')), [501, 'method_not_allowed']);
  });

  it.each(['GET', 'DELETE', 'PUT'])('%s of the preflight is 405, and Allow has what there is', async (method) => {
    const answer = await gateway.call(method, '/api/v1/domains/preflight', { key });
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST']);
  });

  it.each([
    ['two Host fields', 'GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n'],
    ['no Host', 'GET / HTTP/1.1\r\n\r\n'],
    ['a Host with a path', 'GET / HTTP/1.1\r\nhost: a/b\r\n\r\n'],
    ['a Host with a space', 'GET / HTTP/1.1\r\nhost: a b\r\n\r\n'],
  ])('%s is 400', async (_what, sent) => {
    expectError(await ask(sent), [400, 'invalid_parameter']);
  });

  it.each(['localhost:3000', '[::1]:3000', 'a_b.example', ''])('Host: %s is taken', async (host) => {
    const sent = `GET /health/live HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`;
    expect((await ask(sent)).status).toBe(200);
  });

  it('HTTP/1.0 needs no Host', async () => {
    expect((await ask('GET /health/live HTTP/1.0\r\n\r\n')).status).toBe(200);
  });

  it('refuses a second line of a header that is no list', async () => {
    const sent = head('GET /api/v1/domains', withKey(), 'authorization: Bearer x', 'connection: close');
    expectError(await ask(sent), [400, 'invalid_parameter']);
  });

  it('an expectation other than 100-continue is 417', async () => {
    expectError(await ask(head('GET /api/v1/domains', withKey(), 'expect: x')), [417, 'invalid_parameter']);
    const text = await exchange(portOf(gateway), post('/api/v1/domains', '{}', 'expect: 100-continue'));
    expect(text).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 415 /);
  });

  it.each(['0x10', '1e2', '0b1', '1.0', '+5', '05', ' 5', '5 ', '-1', '', 'Infinity', '１'])(
    'limit=%s is 400',
    async (limit) => {
      const path = `/api/v1/domains?limit=${encodeURIComponent(limit)}`;
      const answer = await gateway.call('GET', path, { key });
      expect([answer.status, answer.body.error.param]).toEqual([400, 'limit']);
    },
  );
});

describe('N12: where a request ends', () => {
  const second = 'GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n';
  const accept = (fields: readonly string[], body: string) =>
    head('POST /api/v1/invitations/accept', 'content-type: application/json', ...fields) + body;

  // Whoever stands before us may read such a request in the other way, and take the answer to the second one for that
  // to a request of somebody else (RFC 9112 section 11.2).
  it.each([
    ['a length and chunks', ['content-length: 4', 'transfer-encoding: chunked'], `0\r\n\r\n`],
    ['chunks and a length', ['transfer-encoding: chunked', 'content-length: 4'], `0\r\n\r\n`],
    ['two lengths', ['content-length: 0', 'content-length: 4'], '{}  '],
    ['a list of lengths', ['content-length: 0, 4'], '{}  '],
    ['a length with a sign', ['content-length: +2'], '{}'],
    ['a length in hexadecimal', ['content-length: 0x2'], '{}'],
    ['a coding that nobody knows', ['transfer-encoding: xchunked'], `0\r\n\r\n`],
    ['chunks that are not the last coding', ['transfer-encoding: chunked, identity'], `0\r\n\r\n`],
    ['a field name with a space', ['transfer-encoding : chunked'], `0\r\n\r\n`],
    ['a field name with a control', ['transfer-encoding\x0b: chunked'], `0\r\n\r\n`],
    ['a field value with NUL', ['x: a\0b', 'content-length: 0'], ''],
    ['a chunk with a sign', ['transfer-encoding: chunked'], `+2\r\n{}\r\n0\r\n\r\n`],
    ['a chunk with a prefix', ['transfer-encoding: chunked'], `0x2\r\n{}\r\n0\r\n\r\n`],
    ['a chunk that is longer than it says', ['transfer-encoding: chunked'], `1\r\n{}\r\n0\r\n\r\n`],
  ])('that has %s is 400, and nothing after it is read', async (_what, fields, body) => {
    const text = await exchange(portOf(gateway), accept(fields, body) + second);
    expect(text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expectError(answerIn(text), [400, 'invalid_parameter']);
  });

  it('is known of a proper one, and the next one is answered', async () => {
    const text = await exchange(
      portOf(gateway),
      accept(['transfer-encoding: chunked'], `2\r\n{}\r\n0\r\n\r\n`) +
        second.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n'),
    );
    expect(text.match(/HTTP\/1\.1 (\d+)/g)).toEqual(['HTTP/1.1 400', 'HTTP/1.1 200']);
  });
});

describe('R15: the headers that a security review asks for', () => {
  it.each([
    ['/api/v1/domains', 200],
    ['/api/v1/nothing', 404],
    ['/api/v1/openapi.json', 200],
    ['/health/ready', 200],
    ['/metrics', 200],
    ['/%zz', 404],
  ])('%s has them', async (path, status) => {
    const answer = await gateway.call('GET', path, { key });
    expect(answer.status).toBe(status);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'cache-control': expect.stringContaining('no-store') as string,
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
      'referrer-policy': 'no-referrer',
      'x-frame-options': 'DENY',
    });
  });

  it('the page of the document has a policy under which all of it loads', async () => {
    const page = await gateway.call('GET', '/api/v1/docs');
    const policy = page.headers.get('content-security-policy');
    expect(policy).toContain("default-src 'none'; script-src 'self';");
    expect(page.text).not.toMatch(/<script(?![^>]*\ssrc=)|\son[a-z]+=|javascript:/i);
    const files = [...page.text.matchAll(/(?:src|href)="([^"#]+)"/g)].map(([, file]) => file!);
    expect(files.length).toBeGreaterThan(2);
    for (const file of files) {
      const url = new URL(file, 'http://localhost/api/v1/docs');
      expect(url.origin).toBe('http://localhost');
      const answer = await gateway.call('GET', url.pathname);
      expect([answer.status, answer.headers.get('x-content-type-options')]).toEqual([200, 'nosniff']);
    }
  });
});
