import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type ClientHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import * as packet from 'dns-packet';
import { createTransport } from 'nodemailer';
import { createApp } from '@app/process';
import { domainIdTag, SesDenied, SesRefused, SesUnavailable } from '@app/ses';
import { SesWriter } from '@app/ses-writer';
import { DohServer } from './doh.server';
import { SmtpSink } from './mails';
import { readAllAsJson, SandboxModule } from './sandbox.module';
import type { CaughtMail } from './state';
import { until } from '../../test/support/scheduler';
import { atOnce } from '../../test/support/turns';

const recordsOf = (name: string, tokens: readonly string[]) => ({
  mx: [{ priority: 10, target: 'mail.sendmux.ai' }],
  spf: { name, value: 'v=spf1 include:amazonses.com include:sendmux.ai ~all' },
  dmarc: { name: `_dmarc.${name}`, value: 'v=DMARC1; p=quarantine' },
  dkim: tokens.map((token) => ({ name: `${token}._domainkey.${name}`, value: `${token}.dkim.amazonses.com` })),
  verification: { name: `_sendmux.${name}`, value: 'sendmux-verify=team_abc123' },
});

/** Tests the bytes that the sandbox sends, and requests that are malformed. */
describe('the sandbox at its edges', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sandbox-'));
  let app: NestFastifyApplication;
  let base: string;
  let ses: SesWriter;
  /** Waits for an answer for 400 ms only. */
  let impatient: SesWriter;
  let resolvers: string[];
  let h2: ClientHttp2Session;

  async function start(): Promise<void> {
    app = await createApp({
      host: '127.0.0.1',
      port: 0,
      configure: readAllAsJson,
      module: SandboxModule.forRoot({ host: '127.0.0.1', dohPort: 0, smtpPort: 0, directory, logLevel: 'silent' }),
    });
    await app.listen(0, '127.0.0.1');
    base = `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}`;
    const options = { region: 'eu-west-1', endpoint: base };
    ses = new SesWriter({ ...options, timeoutMs: 30_000 }, atOnce);
    impatient = new SesWriter({ ...options, timeoutMs: 400 }, atOnce);
    resolvers = app.get(DohServer).urls();
    h2 = connect(new URL(resolvers[0]!).origin);
  }
  async function stop(): Promise<void> {
    ses.close();
    impatient.close();
    h2.destroy();
    await app.close();
  }

  beforeAll(async () => {
    process.env.AWS_ACCESS_KEY_ID ??= 'test';
    process.env.AWS_SECRET_ACCESS_KEY ??= 'test';
    await start();
  });
  afterAll(async () => {
    await stop();
    rmSync(directory, { recursive: true });
  });
  afterEach(async () => {
    await call('DELETE', '/faults');
  });

  async function call<T = unknown>(
    method: string,
    path: string,
    body?: unknown,
    type = 'application/json',
  ): Promise<{ status: number; body: T }> {
    const response = await fetch(base + path, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': type } }),
    });
    const text = await response.text();
    return { status: response.status, body: (text === '' ? undefined : JSON.parse(text)) as T };
  }
  const fault = async (api: string, body: object) => {
    expect(await call('PUT', `/faults/${api}`, body)).toMatchObject({ status: 204 });
  };

  /** Sends a query by GET, or by POST when there is a body. */
  function doh(headers: Record<string, string>, body?: Buffer): Promise<{ status: number; body: Buffer }> {
    return new Promise((resolve, reject) => {
      const stream = h2.request(headers, { endStream: body === undefined });
      const chunks: Buffer[] = [];
      let status = 0;
      stream.setTimeout(300, () => stream.close(8));
      stream.on('response', (response) => (status = response[':status']!));
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', reject);
      stream.on('close', () =>
        status ? resolve({ status, body: Buffer.concat(chunks) }) : reject(new Error('no answer')),
      );
      if (body) stream.end(body);
    });
  }
  async function resolveBy(path: string, name: string, type: packet.RecordType, by: 'GET' | 'POST' = 'GET') {
    const query = packet.encode({ type: 'query', id: 0, flags: 256, questions: [{ name, type }] });
    const { status, body } =
      by === 'GET'
        ? await doh({ ':path': `${path}?dns=${query.toString('base64url')}` })
        : await doh({ ':path': path, ':method': 'POST', 'content-type': 'application/dns-message' }, query);
    expect(status).toBe(200);
    const { rcode, answers, authorities } = packet.decode(body) as packet.DecodedPacket & { rcode: string };
    const values = answers!.map((each) => {
      const { type: of, data } = each as { type: string; data: unknown };
      return `${of} ${of === 'TXT' ? Buffer.concat(data as Buffer[]).toString() : JSON.stringify(data)}`;
    });
    return { rcode, values, authorities: authorities!.map((each) => each.type) };
  }
  const resolve = (name: string, type: packet.RecordType) => resolveBy('/resolver-a/dns-query', name, type);

  it('lists its services, and that it is healthy', async () => {
    const { body } = await call<object>('GET', '/');
    expect(Object.keys(body)).toEqual(expect.arrayContaining(['zone', 'mails', 'faults', 'ses']));
    expect((await call('GET', '/health/live')).status).toBe(200);
  });

  describe('SES, by the real SDK', () => {
    it('creates an identity once, and gives the same one the second time', async () => {
      const created = await ses.create('one.acme.com', 'mdom_1');
      expect(created).toMatchObject({ domainId: 'mdom_1', status: 'pending', hostedZone: 'dkim.amazonses.com' });
      expect(created.tokens).toHaveLength(3);
      expect(new Set(created.tokens).size).toBe(3);
      expect(await ses.create('ONE.acme.com', 'mdom_2')).toMatchObject({ domainId: 'mdom_1', tokens: created.tokens });
      expect(await ses.get('one.acme.com')).toMatchObject({ domainId: 'mdom_1', tokens: created.tokens });
      const { body } = await call<{ operation: string; name: string }[]>('GET', '/ses/calls');
      expect(body.slice(0, 3).map(({ operation, name }) => `${operation} ${name}`)).toEqual([
        'CreateEmailIdentity one.acme.com',
        'CreateEmailIdentity one.acme.com',
        'GetEmailIdentity ONE.acme.com',
      ]);
      await ses.delete('one.acme.com');
      expect(await ses.get('one.acme.com')).toBeNull();
      await ses.delete('one.acme.com');
      expect(await ses.get('constructor')).toBeNull();
    });

    it('answers with the status, the headers and the error shape of the SDK’s model', async () => {
      const ask = (method: string, path: string, body?: object) =>
        fetch(`${base}/v2/email/${path}`, {
          method,
          ...(body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
        });
      for (const [method, path, body, status, type] of [
        ['POST', 'identities', { EmailIdentity: 'wire.acme.com' }, 200, null],
        ['POST', 'identities', { EmailIdentity: 'wire.acme.com' }, 400, 'AlreadyExistsException'],
        ['POST', 'identities', {}, 400, 'BadRequestException'],
        ['POST', 'list-identities', {}, 200, null],
        ['GET', 'identities/wire.acme.com', undefined, 200, null],
        ['DELETE', 'identities/wire.acme.com', undefined, 200, null],
        ['DELETE', 'identities/wire.acme.com', undefined, 404, 'NotFoundException'],
        ['GET', 'identities/wire.acme.com', undefined, 404, 'NotFoundException'],
      ] as const) {
        const answer = await ask(method, path, body);
        expect([answer.status, answer.headers.get('x-amzn-errortype')]).toEqual([status, type]);
        expect(answer.headers.get('x-amzn-requestid')).toBeTruthy();
        const json = (await answer.json()) as { message?: string };
        expect(typeof json.message).toBe(type ? 'string' : 'undefined');
      }
    });

    it.each(['nodots', 'a..b', `${'a'.repeat(64)}.com`, 'under_score.com'])('refuses the name %s', async (name) => {
      await expect(ses.create(name, 'mdom_1')).rejects.toThrow(SesRefused);
    });

    it('shows an identity of somebody else', async () => {
      await call('PUT', '/ses/identities/foreign.acme.com', {});
      expect(await ses.create('foreign.acme.com', 'mdom_1')).toMatchObject({ domainId: null });
      const Tags = [{ Key: domainIdTag, Value: 'mdom_9' }];
      await call('PUT', '/ses/identities/foreign.acme.com', { Tags });
      expect(await ses.create('foreign.acme.com', 'mdom_1')).toMatchObject({ domainId: 'mdom_9' });
      expect((await call('PUT', '/ses/identities/foreign.acme.com', { Tags: 'x' })).status).toBe(400);
    });

    it('lists more than a page, each with its status', async () => {
      const names = Array.from({ length: 1_005 }, (_, i) => `n${i}.list.example`);
      for (const name of names) await call('PUT', `/ses/identities/${name}`, {});
      const listed = new Map<string, string>();
      for await (const page of ses.list()) for (const { name, status } of page) listed.set(name, status);
      for (const name of names) expect(listed.get(name)).toBe('pending');
      for (const name of names) await ses.delete(name);
      expect(await call('GET', '/v2/email/identities?PageSize=2000')).toMatchObject({
        status: 400,
        body: { message: expect.stringContaining('PageSize') as string },
      });
    });

    it('follows the three CNAMEs of the zone', async () => {
      const { tokens } = await ses.create('follow.acme.com', 'mdom_1');
      const status = async () => (await ses.get('follow.acme.com'))!.status;
      const name = (token: string) => `/zone/${token}._domainkey.follow.acme.com/CNAME`;
      for (const token of tokens.slice(1)) await call('PUT', name(token), [`${token}.dkim.amazonses.com`]);
      expect(await status()).toBe('pending');
      await call('PUT', name(tokens[0]!), ['elsewhere.example']);
      expect(await status()).toBe('pending');
      await call('PUT', name(tokens[0]!), [`${tokens[0]}.DKIM.amazonses.com.`]);
      expect(await status()).toBe('success');
      await call('DELETE', name(tokens[2]!));
      expect(await status()).toBe('temporary_failure');
      await call('PUT', name(tokens[2]!), [`${tokens[2]}.dkim.amazonses.com`]);
      expect(await status()).toBe('success');
    });

    it.each([
      ['refuse', SesRefused, false],
      ['deny', SesDenied, false],
      ['full', SesDenied, false],
      ['error', SesUnavailable, false],
      ['garbage', SesUnavailable, false],
      ['hang', SesUnavailable, false],
      ['hang_after', SesUnavailable, true],
    ])('shows the fault that is switched on: %s', async (mode, kind, hasEffect) => {
      await fault('ses', { mode, operations: ['CreateEmailIdentity', 'DeleteEmailIdentity'] });
      const client = kind === SesUnavailable ? impatient : ses;
      await expect(client.create('fault.acme.com', 'mdom_1')).rejects.toThrow(kind);
      // A client that waits no longer may be there before the effect.
      const has = async (there: boolean) => until(async () => ((await ses.get('fault.acme.com')) !== null) === there);
      await has(hasEffect);
      await expect(client.delete('fault.acme.com')).rejects.toThrow(kind);
      await has(false);
    });

    it('throttles some calls, and delays an answer but not its effect', async () => {
      await fault('ses', { mode: 'throttle', times: 1 });
      expect(await ses.create('late.acme.com', 'mdom_1')).toMatchObject({ domainId: 'mdom_1' });
      await fault('ses', { mode: 'late', after_ms: 600, times: 1 });
      await expect(impatient.delete('late.acme.com')).rejects.toThrow(SesUnavailable);
      await until(async () => (await ses.get('late.acme.com')) === null);
    });
  });

  describe('the zone and the two resolvers', () => {
    beforeAll(async () => {
      await call('PUT', '/zone/a.dns.example/MX', ['10 mail.sendmux.ai', '20 b.example']);
      await call('PUT', '/zone/a.dns.example/TXT', ['one', '"two " "parts"', 'x'.repeat(600)]);
      await call('PUT', '/zone/alias.dns.example/CNAME', ['alias2.dns.example.']);
      await call('PUT', '/zone/alias2.dns.example/CNAME', ['A.dns.example']);
      await call('PUT', '/zone/dangling.dns.example/CNAME', ['gone.dns.example']);
      await call('PUT', '/zone/x.deep.dns.example/A', ['192.0.2.7']);
      await call('PUT', '/zone/loop1.dns.example/CNAME', ['loop2.dns.example']);
      await call('PUT', '/zone/loop2.dns.example/CNAME', ['loop1.dns.example']);
    });

    const mx = ['MX {"preference":10,"exchange":"mail.sendmux.ai"}', 'MX {"preference":20,"exchange":"b.example"}'];
    it.each(['/dns-query', '/resolver-a/dns-query', '/resolver-b/dns-query'])('answers at %s', async (path) => {
      const expected = { rcode: 'NOERROR', values: mx, authorities: [] };
      expect(await resolveBy(path, 'A.dns.example', 'MX')).toEqual(expected);
      expect(await resolveBy(path, 'a.dns.example', 'MX', 'POST')).toEqual(expected);
    });

    it('gives long texts complete, and follows aliases', async () => {
      const txt = ['TXT one', 'TXT two parts', `TXT ${'x'.repeat(600)}`];
      expect((await resolve('a.dns.example', 'TXT')).values).toEqual(txt);
      const aliases = ['CNAME "alias2.dns.example"', 'CNAME "a.dns.example"'];
      expect((await resolve('alias.dns.example', 'TXT')).values).toEqual([...aliases, ...txt]);
      expect((await resolve('alias.dns.example', 'CNAME')).values).toEqual(aliases.slice(0, 1));
      expect((await resolve('x.deep.dns.example', 'A')).values).toEqual(['A "192.0.2.7"']);
    });

    it.each([
      ['nothing.dns.example', 'NXDOMAIN', []],
      ['constructor', 'NXDOMAIN', []],
      ['x.deep.dns.example', 'NOERROR', []],
      ['deep.dns.example', 'NOERROR', []],
      ['dangling.dns.example', 'NXDOMAIN', ['CNAME "gone.dns.example"']],
    ])('answers for missing records: TXT of %s is %s', async (name, rcode, values) => {
      expect(await resolve(name, 'TXT')).toEqual({ rcode, values, authorities: ['SOA'] });
    });

    it('does not loop', async () => {
      expect(await resolve('loop1.dns.example', 'TXT')).toMatchObject({ rcode: 'SERVFAIL', values: [] });
    });

    it('refuses malformed queries, and stays available', async () => {
      expect(await doh({ ':path': '/dns-query?dns=AAA' })).toMatchObject({ status: 400 });
      expect(await doh({ ':path': '/dns-query' })).toMatchObject({ status: 400 });
      expect(await doh({ ':path': '//' })).toMatchObject({ status: 404 });
      expect(await doh({ ':path': '/dns-query', ':method': 'PUT' })).toMatchObject({ status: 405 });
      const post = { ':path': '/dns-query', ':method': 'POST', 'content-type': 'application/dns-message' };
      expect(await doh({ ...post, 'content-type': 'text/plain' }, Buffer.alloc(1))).toMatchObject({ status: 415 });
      expect(await doh(post, Buffer.alloc(70_000))).toMatchObject({ status: 413 });
      expect(await resolve('a.dns.example', 'MX')).toMatchObject({ values: mx });
    });

    it.each([
      ['/zone/a..b/TXT', ['x']],
      [`/zone/${'a'.repeat(64)}.example/TXT`, ['x']],
      ['/zone/a.example/SRV', ['x']],
      ['/zone/a.example/A', ['999.1.1.1']],
      ['/zone/a.example/MX', ['mail.sendmux.ai']],
      ['/zone/a.example/MX', ['70000 mail.sendmux.ai']],
      ['/zone/a.example/TXT', 'x'],
      ['/zone/a.example/TXT', [1]],
      ['/zone/a.dns.example/CNAME', ['b.example']],
      ['/zone/alias.dns.example/TXT', ['x']],
    ])('refuses PUT %s %j', async (path, body) => {
      const before = (await call('GET', '/zone')).body;
      const { status, body: said } = await call<{ message: string }>('PUT', path, body);
      expect({ status, said: said.message.length > 10 }).toEqual({ status: 400, said: true });
      expect((await call('GET', '/zone')).body).toEqual(before);
    });

    it('places and removes all records of a domain, from an answer of the API as curl -d sends it', async () => {
      const { tokens } = await ses.create('place.acme.com', 'mdom_1');
      const dns_records = recordsOf('place.acme.com', tokens);
      const answer = { ok: true, data: { domain: 'place.acme.com', dns_records } };
      const form = 'application/x-www-form-urlencoded';
      const placed = await call<{ placed: string[] }>('POST', '/zone/place', answer, form);
      expect(placed.status).toBe(200);
      expect(placed.body.placed).toContain('place.acme.com MX 10 mail.sendmux.ai');
      expect(placed.body.placed).toHaveLength(7);
      expect((await ses.get('place.acme.com'))!.status).toBe('success');
      expect((await resolve('_dmarc.place.acme.com', 'TXT')).values).toEqual(['TXT v=DMARC1; p=quarantine']);
      expect(Object.keys((await call<object>('GET', '/zone?name=Place.acme.com.')).body)).toHaveLength(6);
      expect((await call('POST', '/zone/remove', dns_records)).status).toBe(200);
      expect((await call('GET', '/zone?name=place.acme.com')).body).toEqual({});
      expect(await call('POST', '/zone/place', { ok: false })).toMatchObject({ status: 400 });
    });

    it('fails at one resolver and not at the other', async () => {
      const [a, b] = ['/resolver-a/dns-query', '/resolver-b/dns-query'] as const;
      for (const [mode, rcode] of [
        ['servfail', 'SERVFAIL'],
        ['refused', 'REFUSED'],
        ['nxdomain', 'NXDOMAIN'],
      ] as const) {
        await fault('doh-a', { mode });
        expect(await resolveBy(a, 'a.dns.example', 'MX')).toMatchObject({ rcode, values: [] });
        expect(await resolveBy(b, 'a.dns.example', 'MX')).toMatchObject({ rcode: 'NOERROR', values: mx });
      }
      await fault('doh-a', { mode: 'lie' });
      expect((await resolveBy(a, 'a.dns.example', 'TXT')).values).toEqual(['TXT this is a lie']);
      await fault('doh-a', { mode: 'garbage' });
      await expect(resolveBy(a, 'a.dns.example', 'MX')).rejects.toThrow();
      await fault('doh-a', { mode: 'hang', times: 1 });
      await expect(resolveBy(a, 'a.dns.example', 'MX')).rejects.toThrow();
      expect(await resolveBy(a, 'a.dns.example', 'MX')).toMatchObject({ values: mx });
      await fault('doh-b', { mode: 'http_500' });
      const query = packet.encode({ type: 'query', questions: [{ name: 'a.dns.example', type: 'MX' }] });
      expect((await doh({ ':path': b }, undefined)).status).toBe(400);
      expect((await doh({ ':path': `${b}?dns=${query.toString('base64url')}` })).status).toBe(500);
      await fault('doh-b', { mode: 'late', after_ms: 100 });
      const startedAt = performance.now();
      expect(await resolveBy(b, 'a.dns.example', 'MX')).toMatchObject({ values: mx });
      expect(performance.now() - startedAt).toBeGreaterThanOrEqual(95);
    });
  });

  describe('mails', () => {
    const send = async (to: string, subject = 'Records are failing') => {
      const smtp = createTransport({ host: '127.0.0.1', port: app.get(SmtpSink).port(), socketTimeout: 500 });
      try {
        await smtp.sendMail({
          from: 'Sendmux <notifications@sendmux.ai>',
          to,
          subject,
          text: 'In words: é',
          html: '<p>In <b>bold</b></p>',
        });
      } finally {
        smtp.close();
      }
    };
    const mails = async (query = '') => (await call<CaughtMail[]>('GET', `/mails${query}`)).body;

    it('are kept, the newest first', async () => {
      await send('ada@acme.com');
      await send('bob@acme.com', 'Second');
      expect((await mails()).map(({ subject }) => subject)).toEqual(['Second', 'Records are failing']);
      const [mail] = await mails('?to=ada@acme.com');
      expect(mail).toMatchObject({ to: ['ada@acme.com'], subject: 'Records are failing', text: 'In words: é' });
      expect(mail!.from).toContain('notifications@sendmux.ai');
      expect((await call('GET', `/mails/${mail!.id}`)).body).toEqual(mail);
      const page = await fetch(`${base}/mails/${mail!.id}/html`);
      expect(page.headers.get('content-type')).toContain('text/html');
      expect(await page.text()).toContain('<b>bold</b>');
      expect((await call('GET', '/mails/99')).status).toBe(404);
      await call('DELETE', '/mails?up_to=1');
      expect((await mails()).map(({ subject }) => subject)).toEqual(['Second']);
      await call('DELETE', '/mails');
      expect(await mails()).toEqual([]);
    });

    it.each([
      ['refuse', 550, 0],
      ['tempfail', 451, 0],
      ['hang', undefined, 0],
      ['hang_up_after', undefined, 1],
    ])('shows the fault that is switched on, once: %s', async (mode, responseCode, caught) => {
      await call('DELETE', '/mails');
      await fault('smtp', { mode, times: 1 });
      const error = await send('ada@acme.com').catch((failure: { responseCode?: number }) => failure);
      expect(error).toBeInstanceOf(Error);
      expect((error as { responseCode?: number }).responseCode).toBe(responseCode);
      expect(await mails()).toHaveLength(caught);
      await send('ada@acme.com');
      expect(await mails()).toHaveLength(caught + 1);
    });
  });

  it.each([
    ['ses', { mode: 'explode' }],
    ['ses', { mode: 'error', operations: ['SendEmail'] }],
    ['ses', { mode: 'error', times: 0 }],
    ['smtp', { mode: 'refuse', operations: ['CreateEmailIdentity'] }],
    ['doh-c', { mode: 'servfail' }],
    ['toString', { mode: 'servfail' }],
    ['doh-a', {}],
  ])('refuses the fault %s %j', async (api, body) => {
    expect((await call('PUT', `/faults/${api}`, body)).status).toBe(400);
    expect((await call<{ active: object }>('GET', '/faults')).body.active).toEqual({});
  });

  it('has the same state after a restart, and stops despite a request that is left without an answer', async () => {
    const identity = await ses.create('stay.acme.com', 'mdom_1');
    await call('PUT', '/zone/stay.acme.com/TXT', ['here']);
    const before = (await call('GET', '/zone')).body;
    const mails = (await call('GET', '/mails')).body;
    await fault('ses', { mode: 'hang' });
    const waiting = fetch(`${base}/v2/email/identities/stay.acme.com`).catch((error: Error) => error);
    await delay(50);
    await stop();
    expect(await waiting).toMatchObject({ message: 'fetch failed' });
    await start();
    expect(await ses.get('stay.acme.com')).toMatchObject({ domainId: identity.domainId, tokens: identity.tokens });
    expect((await call('GET', '/zone')).body).toEqual(before);
    expect((await call('GET', '/mails')).body).toEqual(mails);
  });
});
