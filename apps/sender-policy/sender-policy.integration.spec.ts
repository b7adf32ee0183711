import { createConnection, type Socket } from 'node:net';
import { MailServer } from '@app/mail-server';
import { freePort } from '../../local/embedded-postgres';
import { postfixIsInstalled, startPostfix, type Postfix } from '../../test/support/postfix';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import { attributesOf, PolicyServer } from './policy-server';
import { SenderPolicy } from './sender-policy';

const host = '127.0.0.1';
const allow = (pattern: string) => ({ type: 'allow', pattern }) as const;
const deny = (pattern: string) => ({ type: 'deny', pattern }) as const;

describe('the policy about senders', () => {
  let database: TestDatabase;
  let mailServer: MailServer;
  let server: PolicyServer;
  let port: number;
  let version = 0;
  const filter = (mode: string, ...rules: { type: 'allow' | 'deny'; pattern: string }[]) =>
    mailServer.filterSenders('mdom_1', mode, rules, ++version);

  beforeAll(async () => {
    database = await migratedDatabase('mail_server');
    mailServer = new MailServer({ url: database.url });
    await mailServer.add('mail.acme.com', 'mdom_1');
    await mailServer.add('other.acme.com', 'mdom_2');
    for (const [id, address, domainId] of [
      ['mbx_1', 'ada@mail.acme.com', 'mdom_1'],
      ['mbx_2', 'ada@other.acme.com', 'mdom_2'],
    ] as const)
      await mailServer.putMailbox({ id, address, domainId, provider: null, status: 'active', version: 1 });
    await mailServer.replaceRoles('postmaster@platform.example', new Map());
    const policy = new SenderPolicy(mailServer);
    port = await freePort();
    server = new PolicyServer((attributes) => policy.actionFor(attributes), { host, port });
    await server.onApplicationBootstrap();
  });
  afterAll(async () => {
    await server?.beforeApplicationShutdown();
    await mailServer?.close();
    await database?.drop();
  });

  /** Sends a text to the server and gives what it has answered once it has said so much, or has hung up. */
  async function ask(text: string, answers = 1): Promise<string> {
    const socket = createConnection(port, host);
    socket.write(text);
    const said = await answersOf(socket, answers);
    socket.destroy();
    return said;
  }
  async function answersOf(socket: Socket, answers: number): Promise<string> {
    let said = '';
    socket.on('data', (chunk: Buffer) => (said += chunk.toString()));
    // A server that hangs up on what it has not read resets the connection.
    socket.on('error', () => undefined);
    const closed = new Promise((resolve) => socket.on('close', resolve));
    while (said.split('\n\n').length <= answers) {
      const more = await Promise.race([nextOf(socket), closed.then(() => undefined)]);
      if (more === undefined) break;
    }
    return said;
  }
  const nextOf = (socket: Socket) => new Promise((resolve) => socket.once('data', resolve));
  const request = (sender: string, recipient: string, state = 'RCPT') =>
    `request=smtpd_access_policy\nprotocol_state=${state}\nsender=${sender}\nrecipient=${recipient}\n\n`;
  const takes = async (sender: string, recipient = 'ada@mail.acme.com') =>
    (await ask(request(sender, recipient))) === 'action=DUNNO\n\n';

  it('takes all mail where there are no rules, or they are off', async () => {
    expect(await takes('eve@evil.example')).toBe(true);
    await filter('off', deny('evil.example'));
    expect(await takes('eve@evil.example')).toBe(true);
  });

  it('takes mail of those alone whom a rule allows; the rule about an address wins', async () => {
    await filter('allowlist', allow('partner.com'), deny('robot@partner.com'), allow('ada@friend.example'));
    expect(await takes('grace@partner.com')).toBe(true);
    expect(await takes('Grace@PARTNER.com')).toBe(true);
    expect(await takes('robot@partner.com')).toBe(false);
    expect(await takes('Robot@Partner.com')).toBe(false);
    expect(await takes('ada@friend.example')).toBe(true);
    expect(await takes('bob@friend.example')).toBe(false);
    expect(await takes('grace@sub.partner.com')).toBe(false);
    expect(await takes('eve@evil.example', 'ada@other.acme.com')).toBe(true);
  });

  it('takes mail of all but those whom a rule denies', async () => {
    await filter('denylist', deny('evil.example'), allow('good@evil.example'), deny('xn--bcher-kva.example'));
    expect(await takes('eve@evil.example')).toBe(false);
    expect(await takes('good@evil.example')).toBe(true);
    expect(await takes('anna@bücher.example')).toBe(false);
    expect(await takes('grace@partner.com')).toBe(true);
  });

  it('applies a rule about a hostname to whatever is before it, and however it is written', async () => {
    await filter('denylist', deny('evil.example'), deny('xn--bcher-kva.example'));
    const senders = ['a..b@EVIL.example', '"a b"@Evil.example', `${'x'.repeat(65)}@EVIL.example.`, 'a.@BÜCHER.example'];
    for (const sender of [...senders, 'bob%Evil.example', 'EVIL.example!bob']) expect(await takes(sender)).toBe(false);
    // Postfix puts its own name behind an address without one.
    expect(await takes('evil.example')).toBe(true);
    await filter('allowlist', allow('partner.com'));
    for (const sender of ['partner.com', '@', '!', '%']) expect(await takes(sender)).toBe(false);
    expect(await takes('partner.com!grace')).toBe(true);
  });

  it('applies the rules of a domain however the recipient is written', async () => {
    await filter('allowlist');
    const recipients = [
      'ada@mail.acme.com.',
      'ada@Mail.Acme.com',
      'mail.acme.com!ada',
      'ada%MAIL.acme.com.',
      'a..b@mail.acme.com',
    ];
    for (const recipient of recipients) expect(await takes('eve@evil.example', recipient)).toBe(false);
    for (const recipient of [
      'postmaster',
      'postmaster@mail.acme.com.',
      'abuse%mail.acme.com',
      'mail.acme.com',
      '@',
      'ada@',
    ])
      expect(await takes('eve@evil.example', recipient)).toBe(true);
  });

  it('always takes mail without a sender, and mail to postmaster and abuse', async () => {
    await filter('allowlist');
    expect(await takes('')).toBe(true);
    expect(await takes('eve@evil.example', 'Postmaster@mail.acme.com')).toBe(true);
    expect(await takes('eve@evil.example', 'abuse@MAIL.acme.com')).toBe(true);
    expect(await takes('eve@evil.example')).toBe(false);
  });

  it('keeps the newest rules, in whatever order they come, and none of a domain that is gone', async () => {
    await filter('allowlist', allow('partner.com'));
    await mailServer.filterSenders('mdom_1', 'off', [], version - 1);
    expect(await takes('eve@evil.example')).toBe(false);
    await mailServer.forgetSenders('mdom_1');
    expect(await takes('eve@evil.example')).toBe(true);
  });

  it('answers several requests of a connection one after the other, however they are cut', async () => {
    await filter('allowlist', allow('partner.com'));
    const [refused, taken] = [
      request('eve@evil.example', 'ada@mail.acme.com'),
      request('a@partner.com', 'ada@mail.acme.com'),
    ];
    const socket = createConnection(port, host);
    const said = answersOf(socket, 3);
    for (const piece of (refused + taken + request('x@y.example', 'ada@mail.acme.com', 'DATA')).match(/[^]{1,7}/g)!)
      socket.write(piece);
    expect((await said).split('\n\n')).toEqual([
      expect.stringContaining('action=550 5.7.1'),
      'action=DUNNO',
      'action=DUNNO',
      '',
    ]);
    socket.destroy();
  });

  it('hangs up on a request that does not end, and answers what is no request with no objection', async () => {
    expect(await ask('x'.repeat(200_000))).toBe('');
    expect(await ask('no attribute\n\n')).toBe('action=DUNNO\n\n');
    expect(attributesOf(Buffer.from('a=b=c\nx\na=d'))).toEqual(new Map([['a', 'd']]));
    expect(await takes('a@partner.com')).toBe(true);
  });

  it('has senders try again while the rules cannot be read', async () => {
    const away = new SenderPolicy({ takesMail: () => Promise.reject(new Error('away')) });
    const attributes = new Map([
      ['protocol_state', 'RCPT'],
      ['sender', 'a@partner.com'],
      ['recipient', 'ada@mail.acme.com'],
    ]);
    expect(await away.actionFor(attributes)).toMatch(/^DEFER_IF_PERMIT 4\.3\.5 /);
  });

  (postfixIsInstalled() ? describe : describe.skip)('asked by a real Postfix', () => {
    let postfix: Postfix;
    beforeAll(async () => {
      postfix = await startPostfix(database.url, port);
    });
    afterAll(() => postfix?.stop());

    it('refuses the mail of a sender whom the rules refuse, and no other', async () => {
      await filter('allowlist', allow('partner.com'));
      expect(await postfix.rcpt('ada@mail.acme.com', 'grace@partner.com')).toMatch(/^250 /);
      expect(await postfix.rcpt('ada@mail.acme.com', 'eve@evil.example')).toMatch(
        /^550 5\.7\.1 .*no mail from this sender/,
      );
      expect(await postfix.rcpt('ada@mail.acme.com', '')).toMatch(/^250 /);
      expect(await postfix.rcpt('postmaster@mail.acme.com', 'eve@evil.example')).toMatch(/^250 /);
      expect(await postfix.rcpt('ada@other.acme.com', 'eve@evil.example')).toMatch(/^250 /);
      expect(await postfix.rcpt('nobody@mail.acme.com', 'grace@partner.com')).toMatch(/^550 5\.1\.1 /);
      for (const recipient of ['ada@mail.acme.com.', 'mail.acme.com!ada', 'ada%mail.acme.com']) {
        expect(await postfix.rcpt(recipient, 'grace@partner.com')).toMatch(/^250 /);
        expect(await postfix.rcpt(recipient, 'eve@evil.example')).toMatch(/^550 5\.7\.1 .*no mail from this sender/);
      }
      await filter('off');
      expect(await postfix.rcpt('ada@mail.acme.com', 'eve@evil.example')).toMatch(/^250 /);
    });
  });
});
