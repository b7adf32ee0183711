import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { createTransport } from 'nodemailer';
import { DohClient } from '@app/dns';
import { createApp } from '@app/process';
import { SesDenied, SesRefused, SesUnavailable } from '@app/ses';
import { SesWriter } from '@app/ses-writer';
import { atOnce } from '../../test/support/turns';
import { DohServer } from './doh.server';
import { SmtpSink } from './mails';
import { SandboxModule } from './sandbox.module';

process.env.AWS_ACCESS_KEY_ID ??= 'sandbox';
process.env.AWS_SECRET_ACCESS_KEY ??= 'sandbox';

describe('the sandbox, used through the clients of the product', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sandbox-'));
  let app: NestFastifyApplication;
  let url: string;
  let ses: SesWriter;
  let resolvers: DohClient[];

  const start = async () => {
    const module = SandboxModule.forRoot({ host: '127.0.0.1', dohPort: 0, smtpPort: 0, directory, logLevel: 'silent' });
    app = await createApp({ host: '127.0.0.1', port: 0, module });
    await app.listen(0, '127.0.0.1');
    url = `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}`;
    ses = new SesWriter({ region: 'eu-west-1', endpoint: url, timeoutMs: 500 }, atOnce);
    resolvers = app
      .get(DohServer)
      .urls()
      .map((doh) => new DohClient({ url: doh, timeoutMs: 300 }));
  };
  const stop = async () => {
    ses.close();
    for (const resolver of resolvers) resolver.close();
    await app.close();
  };
  const http = async (method: string, path: string, body?: unknown) => {
    const json =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const answer = await fetch(url + path, { method, ...json });
    const text = await answer.text();
    return { status: answer.status, body: text ? (JSON.parse(text) as unknown) : undefined };
  };
  const records = (tokens: readonly string[]) => ({
    mx: [{ priority: 10, target: 'mail.sendmux.ai' }],
    spf: { name: 'mail.acme.com', value: 'v=spf1 include:amazonses.com include:sendmux.ai ~all' },
    dmarc: { name: '_dmarc.mail.acme.com', value: 'v=DMARC1; p=quarantine' },
    dkim: tokens.map((token) => ({ name: `${token}._domainkey.mail.acme.com`, value: `${token}.dkim.amazonses.com` })),
    verification: { name: '_sendmux.mail.acme.com', value: 'sendmux-verify=team_abc123' },
  });

  beforeAll(start);
  afterAll(async () => {
    await stop();
    rmSync(directory, { recursive: true });
  });
  afterEach(() => http('DELETE', '/faults'));

  it('is an SES: creates once, gives the tag, follows the zone, deletes', async () => {
    const made = await ses.create('mail.acme.com', 'mdom_1');
    expect(made).toMatchObject({ domainId: 'mdom_1', status: 'pending', hostedZone: 'dkim.amazonses.com' });
    expect(new Set(made.tokens).size).toBe(3);
    expect(await ses.create('mail.acme.com', 'mdom_2')).toMatchObject({ domainId: 'mdom_1', tokens: made.tokens });

    const errorType = async () => (await ses.get('mail.acme.com'))?.verification.errorType;
    const [one, two, three] = made.tokens.map((token) => `/zone/${token}._domainkey.mail.acme.com`);
    const target = (path: string) => `${/zone\/(\w+)/.exec(path)![1]}.dkim.amazonses.com`;
    for (const path of [one!, two!]) await http('PUT', `${path}/CNAME`, [target(path)]);
    expect(await errorType()).toBe('host_not_found');
    await http('PUT', `${three}/TXT`, ['x']);
    expect(await errorType()).toBe('type_not_found');
    await http('DELETE', `${three}/TXT`);
    await http('PUT', `${three}/CNAME`, ['token.eu-west-1.dkim.amazonses.com']);
    expect(await errorType()).toBe('invalid_value');

    const placed = await http('POST', '/zone/place', { ok: true, data: { dns_records: records(made.tokens) } });
    expect(placed).toMatchObject({
      status: 200,
      body: { placed: expect.arrayContaining(['mail.acme.com MX 10 mail.sendmux.ai']) as unknown },
    });
    expect((await ses.get('mail.acme.com'))?.status).toBe('success');
    expect(await errorType()).toBeNull();
    await http('PUT', '/ses/identities/mail.acme.com/status', { status: 'FAILED' });
    expect((await ses.get('mail.acme.com'))?.status).toBe('failed');
    expect(await ses.restartDkim('mail.acme.com')).toEqual(made.tokens);
    expect((await ses.get('mail.acme.com'))?.status).toBe('success');
    await http('POST', '/zone/remove', records(made.tokens));
    expect((await ses.get('mail.acme.com'))?.status).toBe('temporary_failure');

    await ses.delete('mail.acme.com');
    await ses.delete('mail.acme.com');
    expect(await ses.get('mail.acme.com')).toBeNull();
  });

  it('follows the zone for the MAIL FROM domain, and forgets it with the identity', async () => {
    const [name, domain] = ['mail.from.com', 'bounce.mail.from.com'];
    const target = '10 feedback-smtp.eu-west-1.amazonses.com';
    expect(await ses.setMailFrom(name, domain)).toBeNull();
    expect((await ses.create(name, 'mdom_1')).mailFrom).toBeNull();
    expect(await ses.setMailFrom(name, domain)).toEqual({ domain, status: 'pending' });
    const statusWith = async (...records: string[]) => {
      await http('PUT', `/zone/${domain}/MX`, records);
      return (await ses.get(name))?.mailFrom?.status;
    };
    expect(await statusWith()).toBe('pending');
    expect(await statusWith('10 mx.other.net')).toBe('pending');
    expect(await statusWith(target)).toBe('success');
    expect(await statusWith(target, '20 mx.other.net')).toBe('temporary_failure');
    expect(await statusWith(target)).toBe('success');
    await expect(ses.setMailFrom(name, 'bounce.elsewhere.com')).rejects.toThrow(SesDenied);

    await ses.delete(name);
    await ses.create(name, 'mdom_2');
    expect((await ses.get(name))?.mailFrom).toBeNull();
    await ses.delete(name);
    await http('DELETE', `/zone/${domain}`);
  });

  it('lists identities by pages, each with its status', async () => {
    for (const name of ['c.acme.com', 'a.acme.com', 'b.acme.com']) await ses.create(name, 'mdom_1');
    const listed = [];
    for await (const each of ses.list()) listed.push(...each);
    expect(listed).toEqual(['a', 'b', 'c'].map((letter) => ({ name: `${letter}.acme.com`, status: 'pending' })));
    const page = await http('GET', '/v2/email/identities?PageSize=2');
    expect(page.body).toMatchObject({ NextToken: 'b.acme.com' });
    expect((await http('GET', '/v2/email/identities?PageSize=2&NextToken=b.acme.com')).body).not.toHaveProperty(
      'NextToken',
    );
  });

  it('an identity of somebody else carries no tag of ours', async () => {
    await http('PUT', '/ses/identities/foreign.acme.com', {});
    expect(await ses.create('foreign.acme.com', 'mdom_1')).toMatchObject({ domainId: null });
  });

  it.each([
    ['refuse', SesRefused],
    ['deny', SesDenied],
    ['full', SesDenied],
    ['error', SesUnavailable],
    ['garbage', SesUnavailable],
    ['hang', SesUnavailable],
  ])('SES can %s', async (mode, error) => {
    expect((await http('PUT', '/faults/ses', { mode, operations: ['CreateEmailIdentity'] })).status).toBe(204);
    await expect(ses.create(`${mode}.acme.com`, 'mdom_1')).rejects.toThrow(error);
    expect(await ses.get(`${mode}.acme.com`)).toBeNull();
  });

  it('SES can act without an answer', async () => {
    await http('PUT', '/faults/ses', { mode: 'hang_after', times: 1 });
    await expect(ses.create('late.acme.com', 'mdom_1')).rejects.toThrow(SesUnavailable);
    expect(await ses.get('late.acme.com')).toMatchObject({ domainId: 'mdom_1' });
  });

  it('a throttled SES is waited for, as long as the caller does', async () => {
    await http('PUT', '/faults/ses', { mode: 'throttle', times: 2 });
    expect(await ses.create('throttled.acme.com', 'mdom_1')).toMatchObject({ domainId: 'mdom_1' });
    await http('PUT', '/faults/ses', { mode: 'throttle' });
    await expect(ses.get('throttled.acme.com', { signal: AbortSignal.timeout(300) })).rejects.toThrow(SesUnavailable);
  });

  it('is two resolvers over one zone: records, NODATA, NXDOMAIN, aliases', async () => {
    await http('PUT', '/zone/mx.acme.com/MX', ['10 Mail.Sendmux.AI']);
    await http('PUT', '/zone/mx.acme.com/TXT', ['plain text', '"two" "strings"', 'x'.repeat(300)]);
    await http('PUT', '/zone/alias.acme.com/CNAME', ['mx.acme.com']);
    for (const resolver of resolvers) {
      expect(await resolver.mx('MX.acme.com')).toMatchObject({
        records: [{ preference: 10, exchange: 'mail.sendmux.ai' }],
      });
      expect(await resolver.txt('mx.acme.com')).toMatchObject({
        records: ['plain text', 'twostrings', 'x'.repeat(300)],
      });
      expect(await resolver.mx('alias.acme.com')).toMatchObject({
        aliases: ['mx.acme.com'],
        records: [{ preference: 10 }],
      });
      expect(await resolver.mx('nothing.acme.com')).toMatchObject({ kind: 'nxdomain', aliases: [] });
      expect(await resolver.mx('acme.com')).toMatchObject({ kind: 'nodata', aliases: [] });
    }
    await http('DELETE', '/zone/mx.acme.com');
    expect(await resolvers[0]!.mx('alias.acme.com')).toMatchObject({ kind: 'nxdomain' });
  });

  it.each([
    ['servfail', { kind: 'servfail' }],
    ['refused', { kind: 'unreachable' }],
    ['garbage', { kind: 'unreachable' }],
    ['http_500', { kind: 'unreachable' }],
    ['hang', { kind: 'unreachable' }],
  ])('one resolver can %s while the other works', async (mode, answer) => {
    await http('PUT', '/zone/fault.acme.com/MX', ['10 mail.sendmux.ai']);
    await http('PUT', '/faults/doh-a', { mode });
    expect(await resolvers[0]!.mx('fault.acme.com')).toMatchObject(answer);
    expect(await resolvers[1]!.mx('fault.acme.com')).toMatchObject({ kind: 'records' });
  });

  it('keeps mails, and can refuse them temporarily or permanently', async () => {
    const transport = createTransport({ host: '127.0.0.1', port: app.get(SmtpSink).port(), secure: false });
    const mail = { from: 'a@sendmux.ai', to: 'owner@acme.com', subject: 'Hello', text: 'plain', html: '<p>rich</p>' };
    await transport.sendMail(mail);
    const caught = (await http('GET', '/mails?to=owner@acme.com')).body as { id: number }[];
    expect(caught).toMatchObject([{ subject: 'Hello', text: 'plain', html: '<p>rich</p>', to: ['owner@acme.com'] }]);
    expect(await (await fetch(`${url}/mails/${caught[0]!.id}/html`)).text()).toBe('<p>rich</p>');
    await http('PUT', '/faults/smtp', { mode: 'tempfail', times: 1 });
    await expect(transport.sendMail(mail)).rejects.toMatchObject({ responseCode: 451 });
    await http('PUT', '/faults/smtp', { mode: 'refuse' });
    await expect(transport.sendMail(mail)).rejects.toMatchObject({ responseCode: 550 });
    transport.close();
  });

  it.each([
    ['PUT', '/zone/a.acme.com/MX', ['mail.sendmux.ai'], /preference and a host/],
    ['PUT', '/zone/a.acme.com/SRV', ['x'], /one of A, CNAME, MX, NS, TXT/],
    ['PUT', '/zone/a.acme.com/TXT', 'x', /JSON array/],
    ['POST', '/zone/place', { data: {} }, /dns_records/],
    ['PUT', '/faults/ses', { mode: 'explode' }, /refuse/],
    ['PUT', '/faults/kafka', { mode: 'hang' }, /No API kafka/],
  ])('%s %s with %j is refused with what to send', async (method, path, body, message) => {
    const answer = await http(method, path, body);
    expect(answer.status).toBe(400);
    expect(JSON.stringify(answer.body)).toMatch(message);
  });

  it('gives a browser its page, and everybody else the list of what there is', async () => {
    const page = await fetch(url, { headers: { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' } });
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'none'; script-src 'self'; .*ancestors/);
    expect(await page.text()).toContain('<title>Sandbox');
    expect((await http('GET', '/')).body).toHaveProperty('zone');
    for (const name of ['none.js', '..%2fpackage.json', 'package.json', '%00.js'])
      expect((await http('GET', `/assets/${name}`)).status).toBe(404);
  });

  it('places and removes the records of a zone file', async () => {
    const zone_file = [
      '; mail.file.example',
      'mail.file.example. 300 IN MX 10 mail.sendmux.ai.',
      'mail.file.example. 300 IN TXT "v=spf1 -all" "two  spaces"',
      'a._domainkey.mail.file.example. 300 IN CNAME a.dkim.amazonses.com.',
    ].join('\r\n');
    expect(await http('POST', '/zone/place', { zone_file })).toMatchObject({ status: 200 });
    expect((await http('GET', '/zone?name=file.example')).body).toEqual({
      'mail.file.example': { MX: ['10 mail.sendmux.ai'], TXT: ['"v=spf1 -all" "two  spaces"'] },
      'a._domainkey.mail.file.example': { CNAME: ['a.dkim.amazonses.com'] },
    });
    expect(await resolvers[0]!.txt('mail.file.example')).toMatchObject({ records: ['v=spf1 -alltwo  spaces'] });
    await http('POST', '/zone/remove', { zone_file });
    expect((await http('GET', '/zone?name=file.example')).body).toEqual({});
    for (const bad of ['', 'mail.file.example. IN MX', 'x 300 CH TXT "a"', 'x 300 IN SRV 1 2 3 a'])
      expect(await http('POST', '/zone/place', { zone_file: bad })).toMatchObject({ status: 400 });
  });

  it('keeps its state for the next start', async () => {
    await http('PUT', '/zone/kept.acme.com/TXT', ['here']);
    await stop();
    await start();
    expect(await resolvers[0]!.txt('kept.acme.com')).toMatchObject({ records: ['here'] });
    expect(await ses.get('late.acme.com')).toMatchObject({ domainId: 'mdom_1' });
    expect((await http('GET', '/mails')).body).toHaveLength(1);
  });

  describe('several Regions of SES', () => {
    const regions = ['us-east-1', 'us-west-2'] as const;
    const limit = (region: string, limits: object) => http('PUT', `/ses/regions/${region}`, limits);
    let clients: Record<(typeof regions)[number], SesWriter>;

    beforeEach(() => {
      const of = (region: string) => new SesWriter({ region, endpoint: url, timeoutMs: 500 }, atOnce);
      clients = { 'us-east-1': of('us-east-1'), 'us-west-2': of('us-west-2') };
    });
    afterEach(async () => {
      for (const region of regions) {
        clients[region].close();
        await limit(region, {});
      }
    });

    it('have identities of their own, told apart by the signature of the request', async () => {
      const east = await clients['us-east-1'].create('apart.acme.com', 'mdom_east');
      const west = await clients['us-west-2'].create('apart.acme.com', 'mdom_west');
      expect([east.domainId, west.domainId]).toEqual(['mdom_east', 'mdom_west']);
      expect(east.tokens).not.toEqual(west.tokens);
      await clients['us-east-1'].delete('apart.acme.com');
      expect(await clients['us-east-1'].get('apart.acme.com')).toBeNull();
      expect(await clients['us-west-2'].get('apart.acme.com')).toMatchObject({ tokens: west.tokens });
      const listed: string[] = [];
      for await (const page of clients['us-west-2'].list()) listed.push(...page.map(({ name }) => name));
      expect(listed).toEqual(['apart.acme.com']);
      expect((await http('GET', '/ses/calls')).body).toContainEqual(
        expect.objectContaining({ operation: 'CreateEmailIdentity', name: 'apart.acme.com', region: 'us-west-2' }),
      );
    });

    it('take a MAIL FROM domain with the MX record of the Region alone', async () => {
      await clients['us-west-2'].create('from.acme.com', 'mdom_1');
      await clients['us-west-2'].setMailFrom('from.acme.com', 'bounce.from.acme.com');
      const status = async () => (await clients['us-west-2'].get('from.acme.com'))?.mailFrom?.status;
      await http('PUT', '/zone/bounce.from.acme.com/MX', ['10 feedback-smtp.us-east-1.amazonses.com']);
      expect(await status()).toBe('pending');
      await http('PUT', '/zone/bounce.from.acme.com/MX', ['10 feedback-smtp.us-west-2.amazonses.com']);
      expect(await status()).toBe('success');
    });

    it('have as many identities as they may have', async () => {
      await limit('us-east-1', { capacity: 2 });
      const add = (n: number) => clients['us-east-1'].create(`full${n}.acme.com`, `mdom_${n}`);
      await add(1);
      await add(2);
      await expect(add(3)).rejects.toThrow(SesDenied);
      await add(2);
      await clients['us-east-1'].delete('full1.acme.com');
      await add(3);
    });

    it('answer calls that come too soon with a throttle, and those of other Regions at once', async () => {
      await limit('us-east-1', { calls_per_second: 2 });
      const began = performance.now();
      const get = (region: (typeof regions)[number]) => clients[region].get('nobody.acme.com');
      await Promise.all([1, 2, 3, 4].map(() => get('us-west-2')));
      expect(performance.now() - began).toBeLessThan(400);
      await Promise.all([1, 2].map(() => get('us-east-1')));
      // The client repeats what is throttled, half a second later at the earliest.
      expect(performance.now() - began).toBeGreaterThan(250);
      const { body } = await http('GET', '/ses/regions');
      expect(body).toMatchObject({ 'us-east-1': { calls_per_second: 2 }, 'us-west-2': { throttled: 0 } });
      expect((body as Record<string, { throttled: number }>)['us-east-1']!.throttled).toBeGreaterThan(0);
    });

    it('are away one by one', async () => {
      await limit('us-west-2', { is_away: true });
      await expect(clients['us-west-2'].get('nobody.acme.com')).rejects.toThrow(SesUnavailable);
      expect(await clients['us-east-1'].get('nobody.acme.com')).toBeNull();
      await limit('us-west-2', { is_away: false });
      expect(await clients['us-west-2'].get('nobody.acme.com')).toBeNull();
      expect((await limit('us-west-2', { is_away: 'yes' })).status).toBe(400);
    });
  });
});
