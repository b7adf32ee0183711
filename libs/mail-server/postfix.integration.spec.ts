import { postfixIsInstalled, startPostfix, type Postfix } from '../../test/support/postfix';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import { MailServer } from './mail-server';

(postfixIsInstalled() ? describe : describe.skip)('a real Postfix', () => {
  const domain = 'xn--bcher-kva.xn--mnchen-3ya.example.de';
  let database: TestDatabase;
  let mailServer: MailServer;
  let postfix: Postfix;
  const put = (localPart: string, status: 'active' | 'suspended' | 'deleted', version: number) =>
    mailServer.putMailbox({
      id: `mbx_${localPart}`,
      address: `${localPart}@${domain}`,
      domainId: 'mdom_1',
      provider: null,
      status,
      version,
    });

  beforeAll(async () => {
    database = await migratedDatabase('mail_server');
    mailServer = new MailServer({ url: database.url });
    await mailServer.add(domain, 'mdom_1');
    await mailServer.add('mail.acme.com', 'mdom_2');
    await put('ada', 'active', 1);
    await put('eve', 'suspended', 1);
    await mailServer.replaceProviders(new Map([['sendmux-ses', '127.0.0.1:9']]));
    await mailServer.replaceRoles('postmaster@platform.example', new Map());
    postfix = await startPostfix(database.url);
  });
  afterAll(async () => {
    postfix?.stop();
    await mailServer?.close();
    await database?.drop();
  });

  const forms = [
    domain,
    domain.toUpperCase(),
    'bücher.münchen.example.de',
    'BÜCHER.MÜNCHEN.EXAMPLE.DE',
    'bücher.münchen.example.de'.normalize('NFD'),
    'Bücher.München.Example.De'.normalize('NFD').toUpperCase(),
    'bücher.xn--mnchen-3ya.example.de',
    'XN--bcher-kva.münchen.example.de',
    'bücher.münchen.ｅxample.de',
    'bü\u00adcher.mün\u200bchen.example.de',
    'bücher\u3002münchen\u3002example.de',
  ];
  it.each(forms)('R7: takes mail for a mailbox, and none from a suspended one, at %s', async (form) => {
    expect(await postfix.rcpt(`ada@${form}`)).toMatch(/^250 /);
    expect(await postfix.rcpt(`nobody@${form}`)).toMatch(/^550 5\.1\.1 /);
    expect(await postfix.rcpt(`eve@${form}`)).toMatch(/^450 4\.2\.1 /);
    expect(await postfix.submit(`eve@${form}`, 'friend@example.net')).toMatch(/^550 5\.7\.1 .*suspended/);
    expect(await postfix.submit(`ada@${form}`, 'friend@example.net')).toMatch(/^250 /);
  });

  it('R7: takes no mail for a name that is only like it', async () => {
    for (const other of ['munchen.example.de', 'bücher.example.de', 'münchen.example.de', 'straße.example.de'])
      expect(await postfix.rcpt(`ada@${other}`)).toMatch(/^554 /);
  });

  it('has mail name the tenant of SES that counts it, once, and mail that leaves through others none', async () => {
    await mailServer.add('counted.acme.com', 'mdom_3');
    await mailServer.chooseProvider('mdom_3', null, 1, { tenant: 'team_4kz81mq0xw' });
    const own = { domainId: 'mdom_3', status: 'active', version: 1 } as const;
    const put = (name: string, provider: string | null) =>
      mailServer.putMailbox({ ...own, id: `mbx_${name}`, address: `${name}@counted.acme.com`, provider });
    await put('ada', null);
    await put('grace', 'mailgun');
    await put('joan', 'sendmux-ses');
    const tenantsOf = async (sender: string) => {
      const reply = await postfix.submit(sender, 'friend@example.net', 'other@example.org');
      expect(reply).toMatch(/^250 /);
      const headers = postfix.headers(reply);
      expect(headers).toContain(`From: ${sender}`);
      return headers.flatMap((line) => /^X-SES-TENANT: (.*)$/.exec(line)?.[1] ?? []);
    };
    for (const counted of ['ada@counted.acme.com', 'Joan@COUNTED.acme.com', 'nobody@counted.acme.com'])
      expect([counted, await tenantsOf(counted)]).toEqual([counted, ['team_4kz81mq0xw']]);
    for (const other of ['grace@counted.acme.com', 'ada@mail.acme.com', 'somebody@example.com'])
      expect([other, await tenantsOf(other)]).toEqual([other, []]);
    await mailServer.chooseProvider('mdom_3', 'mailgun', 2, { tenant: 'team_4kz81mq0xw' });
    expect(await tenantsOf('ada@counted.acme.com')).toEqual([]);
    expect(await tenantsOf('joan@counted.acme.com')).toEqual(['team_4kz81mq0xw']);
  });

  it.each(['postmaster', 'Postmaster', 'POSTMASTER', 'abuse', 'Abuse'])(
    'R8: always takes mail for %s, also while a mailbox of that name is suspended or gone',
    async (role) => {
      const name = role.toLowerCase();
      for (const form of ['mail.acme.com', 'MAIL.acme.com', domain, 'bücher.münchen.example.de', 'myagent.mx'])
        expect(await postfix.rcpt(`${role}@${form}`)).toMatch(/^250 /);
      for (const status of ['active', 'suspended', 'deleted'] as const) {
        await put(name, status, ++version);
        expect(await postfix.rcpt(`${role}@${domain}`)).toMatch(/^250 /);
      }
      expect(await postfix.rcpt(`${role}@other.acme.com`)).toMatch(/^554 /);
    },
  );
  let version = 0;

  it('R8: takes mail for postmaster without a domain', async () => {
    expect(await postfix.rcpt('Postmaster')).toMatch(/^250 /);
  });

  it('R8: gives it to the owners where they are known, to a mailbox of that name, or to the platform', async () => {
    const target = (address: string) => postfix.lookUp('sendmux-roles.cf', address);
    expect(target('postmaster@mail.acme.com')).toBe('postmaster@platform.example');
    await mailServer.replaceRoles('pm@platform.example', new Map([['mdom_2', 'ada@acme.com,Ops@acme.com']]));
    expect(target('postmaster@mail.acme.com')).toBe('ada@acme.com,Ops@acme.com');
    expect(target('abuse@myagent.mx')).toBe('pm@platform.example');
    expect(target('ada@mail.acme.com')).toBe('');
    await mailServer.replaceRoles('pm@platform.example', new Map());
    expect(target('abuse@mail.acme.com')).toBe('pm@platform.example');
    const own = { id: 'mbx_pm', address: 'postmaster@mail.acme.com', domainId: 'mdom_2', provider: null } as const;
    await mailServer.putMailbox({ ...own, status: 'active', version: 1 });
    expect(target('postmaster@mail.acme.com')).toBe('');
  });
});
