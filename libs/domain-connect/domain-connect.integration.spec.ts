import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DnsAnswer } from '@app/dns';
import { DomainConnect, type DomainConnectOptions } from './domain-connect';
import { pinnedGet, type Resolver } from './pinned-get';
import { SigningKey, SigningKeyUnusable } from './signing-key';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const dmarc = 'v=DMARC1; p=quarantine';

let directory: string;
let key: SigningKey;
let server: Server;
let host: string;
/** The provider's answers by path; 404 for any other. */
const answers = new Map<string, (request: IncomingMessage, response: ServerResponse) => void>();
let asked: string[];
/** What the DNS has, by `name type`. */
const dns = new Map<string, string[]>();

const resolver = (): Resolver => {
  const ask = (type: string) => (name: string) =>
    Promise.resolve<DnsAnswer<string>>(
      dns.has(`${name} ${type}`)
        ? { kind: 'records', records: dns.get(`${name} ${type}`)!, aliases: [] }
        : { kind: 'nodata', aliases: [] },
    );
  return { txt: ask('TXT'), a: ask('A'), aaaa: ask('AAAA') };
};
const connect = (changes: Partial<DomainConnectOptions> = {}) =>
  new DomainConnect([resolver(), resolver()], {
    providers: [host],
    key,
    keyName: '_dck1',
    loopback: true,
    returnTo: 'https://app.example/setup?returned=domain-connect',
    timeoutMs: 500,
    ...changes,
  });
const link = (changes?: Partial<DomainConnectOptions>) => connect(changes).linkFor(domain, 'acme.com', dmarc);
const json = (body: object) => (_: IncomingMessage, response: ServerResponse) =>
  void response.end(JSON.stringify(body));
const settings = (changes: object = {}) =>
  json({ providerName: 'Example', urlSyncUX: `http://${host}/ux`, urlAPI: `http://${host}/api/`, ...changes });
const template = '/api/v2/domainTemplates/providers/sendmux.ai/services/mail';

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sendmux-connect-'));
  ({ key } = SigningKey.open(join(directory, 'key.pem')));
  server = createServer((request, response) => {
    asked.push(request.url!);
    const answer = answers.get(request.url!);
    if (answer) return answer(request, response);
    response.statusCode = 404;
    response.end();
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
beforeEach(() => {
  asked = [];
  dns.clear();
  dns.set('_domainconnect.acme.com TXT', [`${host}/dc`]);
  answers.clear();
  answers.set('/dc/v2/acme.com/settings', settings());
  answers.set(template, (_, response) => void response.end());
});
afterAll(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

it('makes a signed link to the provider of the zone, which it asks once a minute', async () => {
  const one = connect();
  const { provider, url } = (await one.linkFor(domain, 'acme.com', dmarc))!;
  expect(provider).toBe('Example');
  expect(url).toMatch(
    new RegExp(
      `^http://${host}/ux/v2/domainTemplates/providers/sendmux\\.ai/services/mail/apply\\?domain=acme\\.com&host=mail&`,
    ),
  );
  const fields = new URL(url).searchParams;
  expect(Object.fromEntries(fields)).toMatchObject({
    team: 'team_abc123',
    dkim3: 'c',
    dmarc: 'p=quarantine',
    groupId: 'send,receive',
    redirect_uri: 'https://app.example/setup?returned=domain-connect',
    key: '_dck1',
  });
  expect([...fields.keys()].slice(-2)).toEqual(['sig', 'key']);
  await one.linkFor({ ...domain, name: 'other.acme.com' }, 'acme.com', dmarc);
  expect(asked).toEqual(['/dc/v2/acme.com/settings', template]);
});

it.each(['/ux/?', '/ux#', '/ux\n', '/./ux'])('reads the address %j of the pages as URLs are read', async (path) => {
  answers.set('/dc/v2/acme.com/settings', settings({ urlSyncUX: ` http:\\\\${host}${path}` }));
  expect((await link())!.url).toMatch(new RegExp(`^http://${host}/ux/v2/domainTemplates/[^#]*&sig=`));
});

it('names no host where the domain is the top of the zone', async () => {
  const { url } = (await connect().linkFor({ ...domain, name: 'acme.com' }, 'acme.com', dmarc))!;
  expect(new URL(url).searchParams.has('host')).toBe(false);
});

it.each<[string, () => void]>([
  ['the zone names no provider', () => dns.clear()],
  [
    'the zone names one that is not of the settings',
    () => dns.set('_domainconnect.acme.com TXT', ['127.0.0.1:1/dc', 'evil.example']),
  ],
  [
    'the name is no host',
    () => dns.set('_domainconnect.acme.com TXT', [`${host}@evil.example`, `${host}?x`, '', 'x'.repeat(60_000)]),
  ],
  ['the provider does not have the zone', () => answers.delete('/dc/v2/acme.com/settings')],
  ['it does not take our template', () => answers.delete(template)],
  ['it has no pages', () => answers.set('/dc/v2/acme.com/settings', settings({ urlSyncUX: undefined }))],
  [
    'its pages are elsewhere',
    () => answers.set('/dc/v2/acme.com/settings', settings({ urlSyncUX: 'https://evil.example' })),
  ],
  [
    'its pages are no web pages',
    () => answers.set('/dc/v2/acme.com/settings', settings({ urlSyncUX: `javascript://${host}/` })),
  ],
  [
    'its API is elsewhere',
    () => answers.set('/dc/v2/acme.com/settings', settings({ urlAPI: 'https://169.254.169.254' })),
  ],
  ['it answers no JSON', () => answers.set('/dc/v2/acme.com/settings', (_, response) => void response.end('<html>'))],
  ['it answers something else', () => answers.set('/dc/v2/acme.com/settings', json([1]))],
  ['it answers too much', () => answers.set('/dc/v2/acme.com/settings', settings({ x: 'x'.repeat(70_000) }))],
  [
    'it redirects',
    () =>
      answers.set('/dc/v2/acme.com/settings', (_, response) => {
        response.writeHead(302, { location: `http://${host}${template}` });
        response.end();
      }),
  ],
  ['it does not answer', () => answers.set('/dc/v2/acme.com/settings', () => undefined)],
  ['it hangs up', () => answers.set('/dc/v2/acme.com/settings', ({ socket }) => socket.destroy())],
])('makes no link where %s', async (_what, arrange) => {
  arrange();
  expect(await link()).toBeUndefined();
});

it('asks this machine only where the settings allow it', async () => {
  expect(await link({ loopback: false })).toBeUndefined();
  expect(await link({ loopback: false, providers: [host, `localhost:${host.split(':')[1]}`] })).toBeUndefined();
  expect(asked).toEqual([]);
});

it.each([
  ['https://dns.example/', '10.0.0.1', /not public, 10\.0\.0\.1/],
  ['https://dns.example/', '169.254.169.254', /not public/],
  ['https://dns.example/', '0000:0000:0000:0000:0000:0000:0000:0001', /not public/],
  ['https://dns.example/', undefined, /no address/],
  ['http://dns.example/', '1.1.1.1', /without TLS/],
  ['https://10.0.0.1/', undefined, /no name of a host/],
  ['https://[fd00::1]/', undefined, /no name of a host/],
  ['https://127.0.0.1/', undefined, /this machine/],
  ['https://localhost/', undefined, /this machine/],
])('asks nothing of %s where that leads to %s', async (url, address, why) => {
  // The public address beside the other one does not help.
  if (address !== undefined && address !== '1.1.1.1') dns.set('dns.example A', ['1.1.1.1']);
  if (address !== undefined) dns.set('dns.example AAAA', [address]);
  const options = { resolvers: [resolver()], loopback: false, timeoutMs: 500, limit: 100 };
  await expect(pinnedGet(new URL(url), options)).rejects.toThrow(why);
});

it('makes a key that its owner alone can read, once, and takes no other than RSA of 2,048 bits', () => {
  const file = join(directory, 'made.pem');
  const made = SigningKey.open(file);
  const again = SigningKey.open(file);
  expect([made.isNew, again.isNew, statSync(file).mode & 0o777]).toEqual([true, false, 0o600]);
  expect(again.key.records()).toEqual(made.key.records());
  for (const record of made.key.records()) expect(record.length).toBeLessThanOrEqual(255);
  const write = (pair: { privateKey: { export(options: object): string | Buffer } }) =>
    writeFileSync(file, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  write(generateKeyPairSync('rsa', { modulusLength: 1_024 }));
  expect(() => SigningKey.read(file)).toThrow(SigningKeyUnusable);
  write(generateKeyPairSync('ed25519'));
  expect(() => SigningKey.read(file)).toThrow(SigningKeyUnusable);
  expect(() => SigningKey.read(join(directory, 'none.pem'))).toThrow(/cannot|no such file|ENOENT/);
});
