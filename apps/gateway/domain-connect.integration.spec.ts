import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { DohClient } from '@app/dns';
import { SigningKey } from '@app/domain-connect';
import { createApp } from '@app/process';
import { publicUrl, startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import { DohServer } from '../sandbox/doh.server';
import { SandboxAddress } from '../sandbox/platform-records';
import { SandboxModule } from '../sandbox/sandbox.module';
import type { SetupSchema } from './setup/setup.dto';

let database: TestDatabase;
let gateway: TestGateway;
let sandbox: NestFastifyApplication;
let resolvers: DohClient[];
let directory: string;
let host: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sendmux-connect-'));
  const file = join(directory, 'key.pem');
  SigningKey.open(file);
  const connectKey = { file, name: '_dck1' };
  const options = { host: '127.0.0.1', dohPort: 0, smtpPort: 0, directory, logLevel: 'silent', connectKey };
  sandbox = await createApp({ host: '127.0.0.1', port: 0, module: SandboxModule.forRoot(options) });
  await sandbox.listen(0, '127.0.0.1');
  host = `127.0.0.1:${(sandbox.getHttpServer().address() as AddressInfo).port}`;
  sandbox.get(SandboxAddress).host = host;
  resolvers = sandbox
    .get(DohServer)
    .urls()
    .map((url) => new DohClient({ url }));
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url, {
    DOMAIN_CONNECT_PROVIDERS: [host],
    DOMAIN_CONNECT_KEY_FILE: file,
    DOMAIN_CONNECT_LOOPBACK: true,
  });
  gateway.resolvers.push(...resolvers);
});
afterAll(async () => {
  for (const resolver of resolvers) resolver.close();
  await gateway.close();
  await sandbox.close();
  await database.drop();
  rmSync(directory, { recursive: true });
});

const add = async (domain: string, more: object = {}) => {
  const { key } = await gateway.key();
  const { id } = (await gateway.call('POST', '/api/v1/domains', { key, body: { domain, ...more } })).body.data;
  const made = await gateway.call('POST', `/api/v1/domains/${id}/setup-link`, { key, body: {} });
  return new URL((made.body.data as unknown as { url: string }).url).hash.slice(1);
};
const setup = async (token: string) =>
  (await gateway.call('GET', '/api/v1/setup', { key: token })).body.data as unknown as SetupSchema;
const put = (path: string, values: string[]) =>
  fetch(`http://${host}/zone/${path}`, {
    method: 'PUT',
    body: JSON.stringify(values),
    headers: { 'content-type': 'application/json' },
  });
const submit = (query: string) =>
  fetch(`http://${host}/domain-connect/apply`, {
    method: 'POST',
    body: `query=${query}\r\n`,
    headers: { 'content-type': 'text/plain' },
    redirect: 'manual',
  });

it('the records are placed by one click at the provider of the zone, beside what it has', async () => {
  await put('mail.acme.com/TXT', ['v=spf1 include:_spf.google.com ~all', 'other']);
  await put('_spf.google.com/TXT', ['v=spf1 ip4:192.0.2.1 -all']);
  await put('_dmarc.mail.acme.com/TXT', ['v=DMARC1; p=reject; rua=mailto:a@acme.com']);
  const token = await add('mail.acme.com');
  const { plan, domain_connect: offer } = await setup(token);
  expect([plan?.complete, offer?.provider]).toEqual([false, 'Sandbox DNS']);

  const page = await fetch(offer!.url);
  const html = await page.text();
  expect(page.status).toBe(200);
  expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
  expect(html).toContain('v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com ~all');
  const query = /name="query" value="([^"]*)"/.exec(html)![1]!.replaceAll('&#38;', '&');
  const applied = await submit(query);
  expect([applied.status, applied.headers.get('location')]).toEqual([
    303,
    `${publicUrl}/setup?returned=domain-connect`,
  ]);

  const after = await setup(token);
  expect(after.plan?.operations.filter(({ action }) => action !== 'keep')).toEqual([]);
  expect([after.plan?.complete, after.domain_connect]).toEqual([true, null]);
  const zone = (await (await fetch(`http://${host}/zone?name=mail.acme.com`)).json()) as Record<
    string,
    { TXT: string[] }
  >;
  expect(zone['mail.acme.com']!.TXT).toContain('other');
  expect(zone['_dmarc.mail.acme.com']!.TXT).toEqual(['v=DMARC1; p=reject; rua=mailto:a@acme.com']);

  // Another letter, and the provider does not take the link.
  for (const bad of [query.replace('team=team_', 'team=team-'), query.replace(/&sig=[^&]*/, ''), 'domain=acme.com'])
    expect((await submit(bad)).status).toBe(400);
});

it('the MX of a domain that only sends is left alone', async () => {
  await put('out.acme.com/MX', ['5 mx.example.net']);
  const token = await add('out.acme.com', { mode: 'send_only' });
  const { domain_connect: offer } = await setup(token);
  await submit(new URL(offer!.url).search.slice(1));
  const zone = (await (await fetch(`http://${host}/zone?name=out.acme.com`)).json()) as Record<
    string,
    { MX: string[] }
  >;
  expect(zone['out.acme.com']!.MX).toEqual(['5 mx.example.net']);
  expect((await setup(token)).plan?.complete).toBe(true);
});

it('no click is offered where the zone names another provider, and none where the settings name none', async () => {
  await put('_domainconnect.acme.net/TXT', ['connect.example.net']);
  expect((await setup(await add('mail.acme.net'))).domain_connect).toBeNull();
  const plain = await startGateway(database.url);
  plain.resolvers.push(...resolvers);
  const token = await add('mail.acme.org');
  const { body } = await plain.call('GET', '/api/v1/setup', { key: token });
  expect((body.data as unknown as SetupSchema).domain_connect).toBeNull();
  expect((await setup(token)).domain_connect).not.toBeNull();
  await plain.close();
});
