import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, brotliDecompressSync } from 'node:zlib';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let directory: string;

const script = `console.log('${'x'.repeat(2_000)}');`;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sendmux-pages-'));
  mkdirSync(join(directory, 'assets'));
  writeFileSync(join(directory, 'index.html'), '<!doctype html><title>Console</title>');
  writeFileSync(join(directory, 'setup.html'), '<!doctype html><title>Setup</title>');
  writeFileSync(join(directory, 'sandbox.html'), '<!doctype html><title>Sandbox</title>');
  writeFileSync(join(directory, 'favicon.svg'), '<svg xmlns="http://www.w3.org/2000/svg"/>');
  writeFileSync(join(directory, 'assets/app-4f2a.js'), script);
  writeFileSync(join(directory, 'assets/app-4f2a.js.br'), brotliCompressSync(script));
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url, {}, undefined, directory);
});
afterAll(async () => {
  await gateway.close();
  await database.drop();
  rmSync(directory, { recursive: true });
});

const html = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };
const get = (path: string, headers: Record<string, string> = html, method = 'GET') =>
  gateway.call(method, path, { headers });
/** Gets octets as they were sent, since `fetch` decodes them. */
const raw = (path: string, headers: Record<string, string>) =>
  new Promise<{ headers: Record<string, unknown>; body: Buffer }>((resolve, reject) => {
    const { port } = gateway.app.getHttpServer().address() as AddressInfo;
    request({ port, host: '127.0.0.1', path, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks) }));
    })
      .on('error', reject)
      .end();
  });

const policy = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-cache',
  'content-type': 'text/html; charset=utf-8',
};

it.each([
  ['/', 'Console'],
  ['/?x=1', 'Console'],
  ['/setup', 'Setup'],
  ['/setup?returned=domain-connect', 'Setup'],
  ['/domains/mdom_1', 'Console'],
  ['/apiary', 'Console'],
  ['/sandbox.html', 'Console'],
])('GET %s is the page %s, under a strict policy', async (path, title) => {
  const page = await get(path);
  expect([page.status, page.text]).toEqual([200, `<!doctype html><title>${title}</title>`]);
  expect(Object.fromEntries(page.headers)).toMatchObject(policy);
  const head = await get(path, html, 'HEAD');
  expect([head.status, head.text, head.headers.get('etag')]).toEqual([200, '', page.headers.get('etag')]);
  const again = await get(path, { ...html, 'if-none-match': page.headers.get('etag')! });
  expect([again.status, again.text]).toEqual([304, '']);
});

it.each([
  '/api/v1/nothing',
  '/api',
  '/health/nothing',
  '/metrics/nothing',
  '/assets/nothing.js',
  '/assets/..%2findex.html',
])('%s stays no page', async (path) => {
  const { status, body, headers } = await get(path);
  expect([status, body.error.code]).toEqual([404, 'not_found']);
  expect(headers.get('content-security-policy')).toBe("default-src 'none'; frame-ancestors 'none'");
});

it('answers nobody with a page who asks for something else', async () => {
  for (const [path, method, headers] of [
    ['/domains/mdom_1', 'GET', { accept: 'application/json' }],
    ['/domains/mdom_1', 'GET', {}],
    ['/domains/mdom_1', 'POST', html],
  ] as const)
    expect((await get(path, headers, method)).status).toBe(404);
  const { status, headers } = await get('/', html, 'POST');
  expect([status, headers.get('allow')]).toEqual([405, 'GET, HEAD']);
  expect((await get('/api/v1/docs')).text).toContain('swagger');
  expect((await get('/api/v1/domains')).status).toBe(401);
});

it('serves the files of the build for ever, compressed where the build has done so', async () => {
  const plain = await raw('/assets/app-4f2a.js', {});
  expect(plain.headers).toMatchObject({
    'cache-control': 'public, max-age=31536000, immutable',
    'content-type': expect.stringContaining('javascript') as string,
    'x-content-type-options': 'nosniff',
    vary: 'Accept-Encoding',
  });
  expect(plain.body.toString()).toBe(script);
  const small = await raw('/assets/app-4f2a.js', { 'accept-encoding': 'gzip, br' });
  expect(small.headers).toMatchObject({ 'content-encoding': 'br', 'content-type': plain.headers['content-type'] });
  expect(brotliDecompressSync(small.body).toString()).toBe(script);
  const icon = await get('/favicon.svg');
  expect([icon.status, icon.headers.get('content-type')]).toEqual([200, 'image/svg+xml']);
});

const ofAll = {
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
};
const noScripts = { 'content-security-policy': "default-src 'none'; frame-ancestors 'none'" };
const forDocs = {
  'content-security-policy': expect.stringMatching(
    /^default-src 'none'; script-src 'self'; .*form-action 'none'; frame-ancestors 'none'$/,
  ) as string,
};

it.each<[path: string, status: number, headers: Record<string, unknown>]>([
  ['/', 200, policy],
  ['/setup', 200, policy],
  ['/domains/mdom_1', 200, policy],
  ['/favicon.svg', 200, { ...policy, 'content-type': 'image/svg+xml' }],
  ['/assets/app-4f2a.js', 200, noScripts],
  ['/assets/nothing.js', 404, noScripts],
  ['/api/v1/docs', 200, forDocs],
  ['/api/v1/docs/swagger-ui-bundle.js', 200, forDocs],
  ['/api/v1/docs/nothing.js', 404, forDocs],
  ['/api/v1/errors', 200, noScripts],
  ['/api/v1/openapi.json', 200, noScripts],
  ['/api/v1/nothing', 404, noScripts],
  ['/health/live', 200, noScripts],
  ['/metrics', 200, noScripts],
  ['/%zz', 404, noScripts],
])('%s (%i) has the headers of its kind, and those of all', async (path, status, headers) => {
  const answer = await get(path);
  expect([answer.status, Object.fromEntries(answer.headers)]).toMatchObject([status, { ...ofAll, ...headers }]);
  expect([...answer.headers.keys()].filter((name) => /^access-control|^server$|^x-powered-by$/.test(name))).toEqual([]);
});

it.each([
  '//other.example',
  '//other.example/%2e%2e',
  '/\\other.example',
  '/%5cother.example',
  '/setup//other.example/..',
  '/assets',
  '/assets//other.example/..',
  '/api/v1/docs//other.example/%2e%2e',
  '/api/v1/docs/..;//other.example',
  '/?returned=https://other.example',
  '/setup?returned=//other.example',
  '/%0d%0alocation:%20https://other.example',
])('%s leads nowhere else', async (path) => {
  const { port } = gateway.app.getHttpServer().address() as AddressInfo;
  const [status, headers] = await new Promise<[number, Record<string, unknown>]>((resolve, reject) => {
    request({ port, host: '127.0.0.1', path, headers: html }, (response) => {
      response.resume();
      resolve([response.statusCode!, response.headers]);
    })
      .on('error', reject)
      .end();
  });
  expect([status >= 300 && status < 400, headers.location, headers.refresh]).toEqual([false, undefined, undefined]);
});

it('starts without a build, and has no pages then', async () => {
  const bare = await startGateway(database.url, {}, undefined, join(directory, 'nothing'));
  const { status, body } = await bare.call('GET', '/', { headers: html });
  expect([status, body.error.code]).toEqual([404, 'not_found']);
  expect((await bare.call('GET', '/health/live')).status).toBe(200);
  await bare.close();
});
