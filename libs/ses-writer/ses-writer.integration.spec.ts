import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { adoptedTag, domainIdTag, SesRefused, SesUnavailable, type Turns } from '@app/ses';
import { atOnce } from '../../test/support/turns';
import { SesWriter } from './ses-writer';

type Answerer = (response: ServerResponse, request: IncomingMessage) => void;

const tokens = ['tokenone', 'tokentwo', 'tokenthree'];
const easyDkim = { Status: 'PENDING', Tokens: tokens, SigningAttributesOrigin: 'AWS_SES', SigningEnabled: true };
const json =
  (body: unknown, { status = 200, type = '', requestId = 'f00d' } = {}): Answerer =>
  (response) => {
    if (requestId) response.setHeader('x-amzn-RequestId', requestId);
    if (type) response.setHeader('x-amzn-ErrorType', type);
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
const fails = (status: number, type: string, message = 'so it is') => json({ message }, { status, type });
const html: Answerer = (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>hello</html>');

/**
 * Runs the real SDK against scripted answers. Each call takes the next answer of the script, and the last one is
 * repeated.
 */
describe('SES identities over the real SDK', () => {
  let server: Server;
  let ses: SesWriter;
  let script: Answerer[] = [];
  let requests: { line: string; body: string }[] = [];

  beforeAll(async () => {
    Logger.overrideLogger(false);
    process.env.AWS_ACCESS_KEY_ID ??= 'test';
    process.env.AWS_SECRET_ACCESS_KEY ??= 'test';
    server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        requests.push({ line: `${request.method} ${request.url}`, body: Buffer.concat(chunks).toString() });
        (script.length > 1 ? script.shift()! : script[0]!)(response, request);
      });
    });
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    const { port } = server.address() as AddressInfo;
    ses = new SesWriter({ region: 'eu-west-1', endpoint: `http://127.0.0.1:${port}`, timeoutMs: 300 }, atOnce);
  });
  afterAll(async () => {
    ses.close();
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });
  beforeEach(() => (requests = []));

  it('creates with our tag, and gives the tokens, the zone and the status', async () => {
    script = [json({ IdentityType: 'DOMAIN', DkimAttributes: { ...easyDkim, SigningHostedZone: 'x.dkim.example' } })];
    expect(await ses.create('mail.acme.com', 'mdom_1')).toEqual({
      name: 'mail.acme.com',
      domainId: 'mdom_1',
      status: 'pending',
      tokens,
      hostedZone: 'x.dkim.example',
      region: 'eu-west-1',
      mailFrom: null,
      configurationSet: null,
      standing: null,
      verification: { errorType: null, lastCheckedAt: null, lastSuccessAt: null },
    });
    expect(requests).toHaveLength(1);
    expect(requests[0]!.line).toBe('POST /v2/email/identities');
    expect(JSON.parse(requests[0]!.body)).toEqual({
      EmailIdentity: 'mail.acme.com',
      Tags: [{ Key: domainIdTag, Value: 'mdom_1' }],
    });
  });

  describe('with credentials that a program gives', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-ses-'));
    const before = process.env.AWS_CONFIG_FILE;
    const credentials = JSON.stringify({ Version: 1, AccessKeyId: 'AKIDEXAMPLE', SecretAccessKey: 'secret' });
    const clientAfter = (seconds: number, turns: Turns, timeoutMs: number) => {
      writeFileSync(join(directory, 'credentials.json'), credentials);
      const command = `sleep ${seconds}; touch ${directory}/given; cat ${directory}/credentials.json`;
      writeFileSync(join(directory, 'config'), `[profile slow]\ncredential_process = ${command}\n`);
      const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      rmSync(join(directory, 'given'), { force: true });
      return new SesWriter({ region: 'eu-west-1', endpoint, profile: 'slow', timeoutMs }, turns);
    };
    beforeAll(() => (process.env.AWS_CONFIG_FILE = join(directory, 'config')));
    afterAll(() => {
      if (before === undefined) delete process.env.AWS_CONFIG_FILE;
      else process.env.AWS_CONFIG_FILE = before;
      rmSync(directory, { recursive: true });
    });

    it('waits no longer for them than for an answer, nor than its caller', async () => {
      const slow = clientAfter(1.5, atOnce, 300);
      script = [json({ DkimAttributes: easyDkim, Tags: [] })];
      const since = performance.now();
      await expect(slow.get('mail.acme.com')).rejects.toThrow(SesUnavailable);
      await expect(slow.get('mail.acme.com', { signal: AbortSignal.timeout(50) })).rejects.toThrow(SesUnavailable);
      expect(performance.now() - since).toBeLessThan(1_000);
      await delay(1_600);
      expect(await slow.get('mail.acme.com')).toMatchObject({ name: 'mail.acme.com' });
      slow.close();
    });

    it('has them and a connection before its first call takes a turn, so that the call is not late', async () => {
      let connections = 0;
      const connected = () => connections++;
      server.on('connection', connected);
      const atTurns: [number, boolean][] = [];
      const turns: Turns = {
        take: () => {
          atTurns.push([connections, existsSync(join(directory, 'given'))]);
          return Promise.resolve();
        },
        slowDown: () => Promise.resolve(),
      };
      script = [json({ DkimAttributes: easyDkim, Tags: [] })];
      const slow = clientAfter(0.3, turns, 5_000);
      for (let call = 0; call < 3; call++) await slow.get('mail.acme.com');
      slow.close();
      server.off('connection', connected);
      expect(atTurns).toEqual([1, 2, 3].map(() => [1, true]));
      expect(connections).toBe(1);
    });
  });

  it('takes dkim.amazonses.com where SES names no zone', async () => {
    script = [json({ DkimAttributes: easyDkim })];
    expect((await ses.create('mail.acme.com', 'mdom_1')).hostedZone).toBe('dkim.amazonses.com');
  });

  it.each([
    ['ours', [{ Key: domainIdTag, Value: 'mdom_1' }], 'mdom_1'],
    ['another domain’s', [{ Key: domainIdTag, Value: 'mdom_2' }], 'mdom_2'],
    ['somebody’s', [{ Key: 'owner', Value: 'them' }], null],
  ])('reads an identity that is there already: %s', async (_, Tags, domainId) => {
    script = [fails(400, 'AlreadyExistsException'), json({ DkimAttributes: easyDkim, Tags })];
    expect(await ses.create('mail.acme.com', 'mdom_1')).toMatchObject({ domainId, tokens });
    expect(requests.map(({ line }) => line)).toEqual([
      'POST /v2/email/identities',
      'GET /v2/email/identities/mail.acme.com',
    ]);
  });

  it('knows a foreign identity with keys of its own, or without DKIM, and takes neither for ours', async () => {
    const byo = { Status: 'SUCCESS', Tokens: ['selector-1'], SigningAttributesOrigin: 'EXTERNAL' };
    script = [json({ DkimAttributes: byo, Tags: [] })];
    expect(await ses.get('mail.acme.com')).toMatchObject({ domainId: null, tokens: [], status: 'success' });
    script = [json({ DkimAttributes: { Status: 'NOT_STARTED', SigningEnabled: false } })];
    expect(await ses.get('mail.acme.com')).toMatchObject({ domainId: null, status: 'not_started' });
    const Tags = [{ Key: domainIdTag, Value: 'mdom_1' }];
    script = [fails(400, 'AlreadyExistsException'), json({ DkimAttributes: byo, Tags })];
    await expect(ses.create('mail.acme.com', 'mdom_1')).rejects.toThrow(SesUnavailable);
  });

  it.each([
    [{ VerificationStatus: 'SUCCESS', VerifiedForSendingStatus: true }, { SigningEnabled: true }, true],
    [{ VerificationStatus: 'SUCCESS', VerifiedForSendingStatus: true }, { SigningEnabled: undefined }, false],
    [{ VerificationStatus: 'UNKNOWN', VerifiedForSendingStatus: true }, { SigningEnabled: true }, false],
    [{ VerifiedForSendingStatus: true }, { SigningEnabled: true }, false],
  ])('tells what SES says of the identity as a whole, where it says all of it: %j %j', async (answer, dkim, isAll) => {
    script = [json({ ...answer, DkimAttributes: { ...easyDkim, ...dkim }, Tags: [] })];
    expect((await ses.get('mail.acme.com'))!.standing).toEqual(
      isAll ? { verificationStatus: 'success', verifiedForSending: true, dkimSigningEnabled: true } : null,
    );
  });

  it('F1 F10 F12 tells how SES explains the status', async () => {
    const VerificationInfo = { ErrorType: 'HOST_NOT_FOUND', LastCheckedTimestamp: 1_780_000_000 };
    script = [json({ DkimAttributes: easyDkim, Tags: [], VerificationInfo })];
    expect((await ses.get('mail.acme.com'))?.verification).toEqual({
      errorType: 'host_not_found',
      lastCheckedAt: new Date(1_780_000_000_000),
      lastSuccessAt: null,
    });
    script = [json({ DkimAttributes: easyDkim, Tags: [] })];
    expect((await ses.get('mail.acme.com'))?.verification.errorType).toBeNull();
  });

  it('sets the MAIL FROM domain, with a fall-back to a name of SES', async () => {
    script = [json({})];
    const set = { domain: 'bounce.mail.acme.com', status: 'pending' };
    expect(await ses.setMailFrom('mail.acme.com', 'bounce.mail.acme.com')).toEqual(set);
    expect(requests.map(({ line }) => line)).toEqual(['PUT /v2/email/identities/mail.acme.com/mail-from']);
    expect(JSON.parse(requests[0]!.body)).toEqual({
      MailFromDomain: 'bounce.mail.acme.com',
      BehaviorOnMxFailure: 'USE_DEFAULT_VALUE',
    });
    script = [fails(404, 'NotFoundException')];
    expect(await ses.setMailFrom('mail.acme.com', 'bounce.mail.acme.com')).toBeNull();
  });

  it.each([
    [{ MailFromDomain: 'bounce.mail.acme.com', MailFromDomainStatus: 'FAILED' }, 'failed'],
    [{ MailFromDomain: 'bounce.mail.acme.com', MailFromDomainStatus: 'TEMPORARY_FAILURE' }, 'temporary_failure'],
    [{ MailFromDomain: 'bounce.mail.acme.com', MailFromDomainStatus: 'SOMETHING' }, undefined],
    [{ BehaviorOnMxFailure: 'USE_DEFAULT_VALUE' }, undefined],
    [undefined, undefined],
  ])('reads the MAIL FROM domain of %j: %s', async (MailFromAttributes, status) => {
    script = [json({ DkimAttributes: easyDkim, MailFromAttributes })];
    const { mailFrom } = (await ses.get('mail.acme.com'))!;
    expect(mailFrom).toEqual(status === undefined ? null : { domain: 'bounce.mail.acme.com', status });
  });

  it('F5 has SES look for the DKIM records again', async () => {
    script = [json({ DkimStatus: 'PENDING', DkimTokens: tokens })];
    expect(await ses.restartDkim('mail.acme.com')).toEqual(tokens);
    expect(requests.map(({ line }) => line)).toEqual(['PUT /v2/email/identities/mail.acme.com/dkim/signing']);
    expect(JSON.parse(requests[0]!.body)).toEqual({ SigningAttributesOrigin: 'AWS_SES' });
    script = [fails(404, 'NotFoundException')];
    expect(await ses.restartDkim('mail.acme.com')).toBeNull();
  });

  it('gives null for a missing identity, and counts it as deleted', async () => {
    script = [fails(404, 'NotFoundException')];
    expect(await ses.get('mail.acme.com')).toBeNull();
    await ses.delete('mail.acme.com');
    script = [json({})];
    await ses.delete('mail.acme.com');
    expect(requests.at(-1)!.line).toBe('DELETE /v2/email/identities/mail.acme.com');
  });

  it('asks for a further page again, and does not start the list again for two faults', async () => {
    const identity = (n: number) => ({ IdentityName: `d${n}.acme.com`, VerificationStatus: 'SUCCESS' });
    const fault: Answerer = (response) => response.writeHead(503).end();
    const more = json({ EmailIdentities: [identity(1)], NextToken: 'more' });
    script = [more, fault, fault, json({ EmailIdentities: [identity(2)] })];
    const names: string[] = [];
    for await (const page of ses.list()) names.push(...page.map(({ name }) => name));
    expect(names).toEqual(['d1.acme.com', 'd2.acme.com']);
    script = [more, fault];
    const all = async () => {
      for await (const page of ses.list()) names.push(...page.map(({ name }) => name));
    };
    await expect(all()).rejects.toThrow(SesUnavailable);
    expect(requests).toHaveLength(8);
  });

  it('lists by pages', async () => {
    const identity = (n: number) => ({ IdentityName: `d${n}.acme.com`, VerificationStatus: 'SUCCESS' });
    script = [
      json({ EmailIdentities: [identity(1), identity(2)], NextToken: 'more' }),
      json({ EmailIdentities: [identity(3)] }),
    ];
    const pages: string[][] = [];
    for await (const page of ses.list()) pages.push(page.map(({ name, status }) => `${name} ${status}`));
    expect(pages).toEqual([['d1.acme.com success', 'd2.acme.com success'], ['d3.acme.com success']]);
    expect(requests.map(({ line }) => line)).toEqual([
      'POST /v2/email/list-identities',
      'POST /v2/email/list-identities',
    ]);
    expect(requests.map(({ body }) => JSON.parse(body) as unknown)).toEqual([
      { PageSize: 1_000 },
      { PageSize: 1_000, NextToken: 'more' },
    ]);
  });

  it.each([
    [400, 'BadRequestException'],
    [400, 'ValidationException:http://internal.amazon.com/'],
  ])('is refused for good: %i %s', async (status, type) => {
    script = [fails(status, type)];
    await expect(ses.create('mail.acme.com', 'mdom_1')).rejects.toThrow(SesRefused);
    expect(requests).toHaveLength(1);
  });

  it('P2: tags an identity that is to be adopted, by its ARN', async () => {
    script = [json({})];
    expect(await ses.adopt('mail.acme.com', '123456789012')).toBe(true);
    expect(requests.map(({ line }) => line)).toEqual(['POST /v2/email/tags']);
    expect(JSON.parse(requests[0]!.body)).toEqual({
      ResourceArn: 'arn:aws:ses:eu-west-1:123456789012:identity/mail.acme.com',
      Tags: [{ Key: domainIdTag, Value: adoptedTag }],
    });
  });

  const noAnswers: [string, Answerer][] = [
    ['500', fails(500, 'InternalServiceErrorException')],
    ['503 without a word', (response) => response.writeHead(503).end()],
    ['a concurrent modification', fails(500, 'ConcurrentModificationException')],
    ['a concurrent modification told as 409', fails(409, 'ConcurrentModificationException')],
    ['an error without a name', json({ message: 'what?' }, { status: 400 })],
    ['a refusal of somebody else', json({}, { status: 403, type: 'AccessDenied', requestId: '' })],
    ['a page of HTML', html],
    ['a page of HTML with 404', (response) => response.writeHead(404, { 'content-type': 'text/html' }).end('<p>no')],
    ['a hung connection', () => undefined],
    ['a hung body', (response) => response.writeHead(200, { 'content-length': '99' }).write('{')],
    ['a closed connection', (response) => response.destroy()],
  ];
  it.each(noAnswers)('believes nothing of %s', async (_, answer) => {
    const nothing = [
      () => ses.create('mail.acme.com', 'mdom_1'),
      () => ses.get('mail.acme.com'),
      () => ses.delete('mail.acme.com'),
      () => ses.list().next(),
    ];
    for (const ask of nothing) {
      script = [answer];
      await expect(ask()).rejects.toThrow(SesUnavailable);
    }
    expect(requests).toHaveLength(nothing.length);
  });

  const halfAnswers: [string, unknown][] = [
    ['nothing', {}],
    ['two tokens', { DkimAttributes: { ...easyDkim, Tokens: tokens.slice(1) } }],
    ['tokens that are none', { DkimAttributes: { ...easyDkim, Tokens: ['a', 'b', '<c>'] } }],
    ['no status', { DkimAttributes: { ...easyDkim, Status: undefined } }],
    ['an unknown status', { DkimAttributes: { ...easyDkim, Status: 'PERHAPS' } }],
    ['a zone that is none', { DkimAttributes: { ...easyDkim, SigningHostedZone: 'not a zone' } }],
    ['a list of nothing', { EmailIdentities: [{}] }],
  ];
  it.each(halfAnswers)('believes no answer with %s', async (_, body) => {
    script = [json(body)];
    await expect(ses.create('mail.acme.com', 'mdom_1')).rejects.toThrow(SesUnavailable);
    await expect(ses.get('mail.acme.com')).rejects.toThrow(SesUnavailable);
    await expect(ses.list().next()).rejects.toThrow(SesUnavailable);
  });

  it('trusts no answer that breaks off', async () => {
    script = [(response) => response.writeHead(200, { 'x-amzn-RequestId': '1' }).end('{"DkimAttributes":')];
    await expect(ses.create('mail.acme.com', 'mdom_1')).rejects.toThrow(SesUnavailable);
    await expect(ses.get('mail.acme.com')).rejects.toThrow(SesUnavailable);
    await expect(ses.list().next()).rejects.toThrow(SesUnavailable);
  });

  it('reports a port without a listener', async () => {
    const nowhere = new SesWriter({ region: 'eu-west-1', endpoint: 'http://127.0.0.1:1', timeoutMs: 300 }, atOnce);
    await expect(nowhere.get('mail.acme.com')).rejects.toThrow(SesUnavailable);
    nowhere.close();
  });

  it.each([
    [429, 'TooManyRequestsException'],
    [400, 'ThrottlingException'],
  ])('waits out a throttled SES: %i %s', async (status, type) => {
    script = [fails(status, type), fails(status, type), json({ DkimAttributes: easyDkim })];
    expect(await ses.create('mail.acme.com', 'mdom_1')).toMatchObject({ tokens });
    expect(requests).toHaveLength(3);
  });

  it('waits for a throttled SES no longer than its caller', async () => {
    // SES throttles for ever: a wait that did not end with its caller would not end.
    script = [fails(429, 'TooManyRequestsException')];
    await expect(ses.get('mail.acme.com', { signal: AbortSignal.timeout(400) })).rejects.toThrow(SesUnavailable);
  });
});
