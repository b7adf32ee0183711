import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';
import { portOf } from '@app/runtime';
import { query } from './support/both-or-neither';
import { postfixIsInstalled, startPostfix, type Postfix } from './support/postfix';
import { startSystem, type ApiClient, type Answer, type System } from './support/processes';

/** Starts a relay that accepts every mail and records the senders. */
async function startRelay(): Promise<{ port: number; senders: string[]; stop(): Promise<void> }> {
  const senders: string[] = [];
  const server = new SMTPServer({
    disabledCommands: ['AUTH', 'STARTTLS'],
    onData: (stream, session, done) => {
      stream.resume().once('end', () => {
        if (session.envelope.mailFrom) senders.push(session.envelope.mailFrom.address);
        done();
      });
    },
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.server.address() as AddressInfo;
  return { port, senders, stop: () => new Promise((resolve) => server.close(resolve)) };
}

(postfixIsInstalled() ? describe : describe.skip)('a real Postfix follows the mailboxes', () => {
  const name = 'mail.acme.com';
  const relays: Record<string, Awaited<ReturnType<typeof startRelay>>> = {};
  let system: System;
  let postfix: Postfix;
  let api: ApiClient;
  let team: string;
  let domainId: string;

  beforeAll(async () => {
    for (const provider of ['sendmux-ses', 'mailgun', 'postmark']) relays[provider] = await startRelay();
    const providers = Object.entries(relays).map(([provider, { port }]) => `${provider}=127.0.0.1:${port}`);
    system = await startSystem({
      apps: ['sandbox', 'gateway', 'provisioning', 'sender-policy'],
      env: { OUTBOUND_PROVIDERS: providers.join(',') },
    });
    postfix = await startPostfix(system.mailServerDatabaseUrl, portOf('sender-policy-postfix', system.port));
    ({ api, id: team } = await system.team());
    const added = await api.add(name);
    domainId = idOf(added);
    await system.sandbox.place(added.body);
    await system.until('it is verified', async () => {
      const { body } = (await api.verify(domainId)) as { body: { data: { status: string } } };
      return body.data.status === 'verified';
    });
  });
  afterAll(async () => {
    postfix?.stop();
    await system?.end();
    await Promise.all(Object.values(relays).map((relay) => relay.stop()));
  });

  const idOf = ({ body }: Answer) => (body as { data: { id: string } }).data.id;
  const create = async (address: string, more: object = {}): Promise<string> => {
    const created = await api.call('POST', '/mailboxes', { address, ...more });
    expect(created).toMatchObject({ status: 201 });
    return idOf(created);
  };
  const act = async (id: string, what: string) =>
    expect((await api.call('POST', `/mailboxes/${id}/${what}`)).status).toBe(200);
  const choose = async (path: string, provider: string | null) =>
    expect((await api.call('PUT', `${path}/outbound-provider`, { outbound_provider: provider })).status).toBe(200);
  /** Waits for a reply of Postfix: the mail server is updated shortly after the answer of the API. */
  const replies = (address: string, reply: RegExp) =>
    system.until(`RCPT TO:<${address}> gives ${reply}`, async () => reply.test(await postfix.rcpt(address)));

  it('refuses mail for unknown addresses at once', async () => {
    expect(await postfix.rcpt('ada@nobody.acme.com')).toMatch(/^554 5\.7\.1 .*Relay access denied/);
    expect(await postfix.rcpt(`nobody@${name}`)).toMatch(/^550 5\.1\.1 .*unknown/);
    expect(await postfix.rcpt('nobody@myagent.mx')).toMatch(/^550 5\.1\.1 .*unknown/);
  });

  it('accepts mail for a mailbox, defers it while that is suspended, and refuses it after a deletion', async () => {
    const id = await create(`ada@${name}`);
    await replies(`ada@${name}`, /^250 /);
    expect(await postfix.rcpt(`Ada@${name.toUpperCase()}`)).toMatch(/^250 /);
    await act(id, 'suspend');
    await replies(`ada@${name}`, /^450 4\.2\.1 .*The mailbox is suspended/);
    await act(id, 'resume');
    await replies(`ada@${name}`, /^250 /);
    await act(id, 'suspend');
    await replies(`ada@${name}`, /^450 /);
    await api.call('DELETE', `/mailboxes/${id}`);
    await replies(`ada@${name}`, /^550 5\.1\.1 /);
    // The address is available again, for another mailbox.
    await create(`ada@${name}`);
    await replies(`ada@${name}`, /^250 /);
  });

  // The local parts that RFC 5321 and RFC 6531 allow, in any case and any Unicode normal form.
  it.each(["o'hara", 'x+y', '-a', 'a%b', 'a!b', "!#$%&'*+-/=?^_`{|}~", '用户', 'José', 'Straße', 'όψις', 'İıſ', 'Ꭰ'])(
    'knows %s before the @, and whether it is suspended',
    async (localPart) => {
      const address = `${localPart}@${name}`;
      const id = await create(address);
      await replies(address, /^250 /);
      for (const written of [address.toLowerCase(), address.normalize('NFD')])
        expect(await postfix.rcpt(written)).toMatch(/^250 /);
      await act(id, 'suspend');
      await replies(address, /^450 4\.2\.1 /);
      expect(await postfix.submit(address, 'someone@example.net')).toMatch(/^550 5\.7\.1 /);
    },
  );

  it.each(['someone%example.net', 'example.net!someone', '"someone@example.net"'])(
    'accepts no mail for another host by way of %s',
    async (localPart) => {
      expect(await postfix.rcpt(`${localPart}@${name}`)).toMatch(/^550 5\.1\.1 /);
      expect(await postfix.rcpt(`@${name}:someone@example.net`)).toMatch(/^554 5\.7\.1 /);
    },
  );

  it('accepts mail of those senders alone whom the domain takes it from', async () => {
    const address = `picky@${name}`;
    await create(address);
    await replies(address, /^250 /);
    const put = (mode: string, rules: object[]) => api.call('PUT', `/domains/${domainId}/filters`, { mode, rules });
    expect(await put('allowlist', [{ type: 'allow', pattern: '*@Partner.com' }])).toMatchObject({ status: 200 });
    await replies(address, /^550 5\.7\.1 .*takes no mail from this sender/);
    expect(await postfix.rcpt(address, 'grace@partner.com')).toMatch(/^250 /);
    // While nobody can say whom the recipient takes mail from, senders try again later.
    await system.stop('sender-policy');
    expect(await postfix.rcpt(address, 'eve@evil.example')).toMatch(/^4\d\d /);
    await system.start('sender-policy');
    expect(await postfix.rcpt(address, 'eve@evil.example')).toMatch(/^550 /);
    expect(await put('off', [])).toMatchObject({ status: 200 });
    await replies(address, /^250 /);
  });

  it('accepts mail on myagent.mx at once', async () => {
    const address = `ada${team.replace('team_', '-')}@myagent.mx`;
    await create(address);
    await replies(address, /^250 /);
  });

  it('sends through the choice of the mailbox, else of its domain, else Sendmux SES', async () => {
    const [plain, own, back] = [
      await create(`plain@${name}`),
      await create(`own@${name}`, { outbound_provider: 'postmark' }),
      await create(`back@${name}`),
    ];
    const accented = `zoë@${name}`;
    await create(accented, { outbound_provider: 'postmark' });
    const shared = `ada${team.replace('team_', '-')}@myagent.mx`;
    const known = (sender: string, nexthop: string | null) =>
      system.until(`the relay of ${sender} is known`, async () => {
        const sql = 'SELECT nexthop FROM mail_relays WHERE sender = $1';
        const [row] = await query<{ nexthop: string }>(system.mailServerDatabaseUrl, sql, [sender]);
        return (row?.nexthop ?? null) === nexthop;
      });
    const nexthop = (provider: string) => `[127.0.0.1]:${relays[provider]!.port}`;
    let mails = 0;
    /** Expects each mail to leave through its relay, and through no other. */
    const leave = async (expected: Record<string, string[]>) => {
      const before = Object.fromEntries(Object.entries(relays).map(([relay, { senders }]) => [relay, senders.length]));
      for (const sender of Object.values(expected).flat())
        // The recipients differ, because Postfix caches the relay for a sender and recipient.
        expect(await postfix.submit(sender, `someone${(mails += 1)}@example.net`)).toMatch(/^250 2\.0\.0 /);
      const came = () =>
        Object.fromEntries(
          Object.keys(expected).map((relay) => [relay, relays[relay]!.senders.slice(before[relay]).sort()]),
        );
      const all = Object.values(expected).flat().length;
      await system.until('all have left', () => Object.values(came()).flat().length >= all);
      expect(came()).toEqual(expected);
    };

    for (const sender of [`own@${name}`, accented]) await known(sender, nexthop('postmark'));
    await leave({ 'sendmux-ses': [shared, `plain@${name}`].sort(), mailgun: [], postmark: [`own@${name}`, accented] });

    await choose(`/domains/${domainId}`, 'mailgun');
    await choose(`/mailboxes/${back}`, 'sendmux-ses');
    await known(`@${name}`, nexthop('mailgun'));
    await known(`back@${name}`, nexthop('sendmux-ses'));
    await leave({
      'sendmux-ses': [shared, `back@${name}`].sort(),
      mailgun: [`plain@${name}`],
      postmark: [`own@${name}`, accented],
    });

    await choose(`/mailboxes/${own}`, null);
    await choose(`/domains/${domainId}`, null);
    await known(`own@${name}`, null);
    await known(`@${name}`, nexthop('sendmux-ses'));
    await leave({ 'sendmux-ses': [`own@${name}`, `plain@${name}`], mailgun: [], postmark: [] });

    await act(plain, 'suspend');
    await replies(`plain@${name}`, /^450 /);
    expect(await postfix.submit(`plain@${name}`, 'someone@example.net')).toMatch(
      /^550 5\.7\.1 .*The mailbox is suspended and sends no mail/,
    );
  });

  it('is updated eventually, even if provisioning was stopped or killed', async () => {
    await system.kill('provisioning');
    const id = await create(`late@${name}`);
    await act(id, 'suspend');
    expect(await postfix.rcpt(`late@${name}`)).toMatch(/^550 /);
    await system.start('provisioning');
    await replies(`late@${name}`, /^450 /);
    await act(id, 'resume');
    await system.kill('provisioning');
    await system.start('provisioning');
    await replies(`late@${name}`, /^250 /);
  });

  it('accepts no mail for a deleted domain, whatever mailboxes it had', async () => {
    const { body } = (await api.call('GET', '/mailboxes?limit=100')) as { body: { data: { id: string }[] } };
    expect((await api.delete(domainId)).status).toBe(409);
    for (const { id } of body.data) await api.call('DELETE', `/mailboxes/${id}`);
    const rule = { type: 'deny', pattern: 'eve@evil.example' };
    await api.call('PUT', `/domains/${domainId}/filters`, { mode: 'denylist', rules: [rule] });
    expect((await api.delete(domainId)).status).toBe(200);
    expect(await postfix.rcpt(`ada@${name}`)).toMatch(/^554 /);
    await system.until('nothing that its rules said of people is left', async () => {
      const stored = await query(system.databaseUrl, 'SELECT FROM sender_rules');
      const placed = await query(system.mailServerDatabaseUrl, 'SELECT FROM mail_sender_filters');
      return stored.length + placed.length === 0;
    });
    await replies(`ada${team.replace('team_', '-')}@myagent.mx`, /^550 5\.1\.1 /);
  });
});
