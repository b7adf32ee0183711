import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { Logger } from '@nestjs/common';
import { Client } from 'pg';
import { migrate } from '@app/database';
import { sharedDomain } from '@app/mailbox';
import { migratedDatabase } from '../../test/support/migrated-database';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { MailServer, MailServerDenied, MailServerUnavailable } from './mail-server';
import { mailServerMigrations, sharedDomainId } from './mail-server.migration';

describe('the mail server', () => {
  let database: TestDatabase;
  let mailServer: MailServer;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    database = await migratedDatabase('mail_server');
    mailServer = new MailServer({ url: database.url, timeoutMs: 2_000 });
  });
  afterAll(async () => {
    await mailServer.close();
    await database.drop();
  });

  it('adds a domain once, however often it is asked', async () => {
    expect(await mailServer.add('mail.acme.com', 'mdom_1')).toEqual({ outcome: 'added' });
    expect(await mailServer.add('mail.acme.com', 'mdom_1')).toEqual({ outcome: 'added' });
    expect(await mailServer.owner('mail.acme.com')).toBe('mdom_1');
  });

  it('names the owner of another domain’s row, and neither changes nor removes it', async () => {
    expect(await mailServer.add('mail.acme.com', 'mdom_2')).toEqual({ outcome: 'foreign', domainId: 'mdom_1' });
    await mailServer.remove('mail.acme.com', 'mdom_2');
    expect(await mailServer.owner('mail.acme.com')).toBe('mdom_1');
  });

  it('removes its own, and what is not there', async () => {
    await mailServer.remove('mail.acme.com', 'mdom_1');
    await mailServer.remove('mail.acme.com', 'mdom_1');
    expect(await mailServer.owner('mail.acme.com')).toBeUndefined();
  });

  it('keeps nothing of the provider of a domain that it removes, also where that comes again, and all of others', async () => {
    const client = new Client({ connectionString: database.url });
    await client.connect();
    const choices = async () =>
      (await client.query<{ id: string }>('SELECT domain_id AS id FROM mail_domain_choices ORDER BY 1')).rows;
    for (const id of ['mdom_30', 'mdom_31']) {
      await mailServer.add(`${id}.acme.com`, id);
      await mailServer.chooseProvider(id, null, 1);
    }
    await mailServer.remove('mdom_30.acme.com', 'mdom_30');
    expect(await choices()).toEqual([{ id: 'mdom_31' }]);
    await mailServer.chooseProvider('mdom_30', null, 2);
    await mailServer.forgetProvider('mdom_30');
    expect(await choices()).toEqual([{ id: 'mdom_31' }]);
    await mailServer.remove('mdom_31.acme.com', 'mdom_31');
    expect(await choices()).toEqual([]);
    await client.end();
  });

  it('takes no mail for a domain that only sends until it is to receive, and leaves one that an operator has stopped', async () => {
    const client = new Client({ connectionString: database.url });
    await client.connect();
    const isActive = async () =>
      (await client.query<{ active: boolean }>(`SELECT active FROM mail_domains WHERE domain = 'news.acme.com'`))
        .rows[0]?.active;
    await mailServer.add('news.acme.com', 'mdom_7', false);
    await mailServer.add('news.acme.com', 'mdom_7', false);
    expect(await isActive()).toBe(false);
    await mailServer.enableReceiving('mdom_8');
    expect(await isActive()).toBe(false);
    await mailServer.enableReceiving('mdom_7');
    expect(await isActive()).toBe(true);
    await client.query(`UPDATE mail_domains SET active = false WHERE domain = 'news.acme.com'`);
    await mailServer.enableReceiving('mdom_7');
    expect(await isActive()).toBe(false);
    await client.end();
  });

  describe('of mailboxes', () => {
    const rows = async <Row extends object>(text: string): Promise<Row[]> => {
      const client = new Client({ connectionString: database.url });
      await client.connect();
      try {
        return (await client.query<Row>(text)).rows;
      } finally {
        await client.end();
      }
    };
    const recipients = async () =>
      (await rows<{ word: string }>(`SELECT address || ' ' || status AS word FROM mail_recipients ORDER BY 1`)).map(
        ({ word }) => word,
      );
    const relayOf = async (sender: string) =>
      (await rows<{ nexthop: string }>(`SELECT nexthop FROM mail_relays WHERE sender = '${sender}'`)).map(
        ({ nexthop }) => nexthop,
      );
    const ada = { id: 'mbx_1', address: 'ada@box.acme.com', domainId: 'mdom_9', provider: null } as const;

    it('keeps the newest version of each, in whatever order they come, and only on its own domain', async () => {
      await mailServer.putMailbox({ ...ada, status: 'active', version: 1 });
      expect(await recipients()).toEqual([]);
      await mailServer.add('box.acme.com', 'mdom_9');
      expect(await recipients()).toEqual(['ada@box.acme.com active']);
      await mailServer.putMailbox({ ...ada, status: 'active', version: 3 });
      await mailServer.putMailbox({ ...ada, status: 'suspended', version: 2 });
      expect(await recipients()).toEqual(['ada@box.acme.com active']);
      await mailServer.putMailbox({ ...ada, status: 'suspended', version: 4 });
      expect(await recipients()).toEqual(['ada@box.acme.com suspended']);
      await mailServer.remove('box.acme.com', 'mdom_9');
      await mailServer.add('box.acme.com', 'mdom_10');
      expect(await recipients()).toEqual([]);
    });

    it('never brings back one that is deleted', async () => {
      const eve = { ...ada, id: 'mbx_2', address: 'eve@box.acme.com', domainId: 'mdom_10' };
      await mailServer.putMailbox({ ...eve, status: 'deleted', version: 2 });
      await mailServer.putMailbox({ ...eve, status: 'active', version: 1 });
      expect(await recipients()).toEqual([]);
      await mailServer.putMailbox({ ...eve, id: 'mbx_3', status: 'active', version: 1 });
      expect(await recipients()).toEqual(['eve@box.acme.com active']);
    });

    it('has the shared domain from the start, and nobody adds or removes it', async () => {
      expect(await mailServer.add(sharedDomain, 'mdom_1')).toMatchObject({ outcome: 'foreign' });
      await mailServer.remove(sharedDomain, 'mdom_1');
      await mailServer.putMailbox({
        id: 'mbx_4',
        address: `ada-abc@${sharedDomain}`,
        domainId: null,
        provider: null,
        status: 'active',
        version: 1,
      });
      expect(await recipients()).toContain(`ada-abc@${sharedDomain} active`);
    });

    it('has Sendmux SES stand for the relay of the shard that a domain is in', async () => {
      const relays = new Map([
        ['sendmux-ses', 'ses-1:587'],
        ['sendmux-ses-us-1', 'ses-2:587'],
        ['mailgun', 'mailgun:587'],
      ]);
      await mailServer.replaceProviders(relays);
      await mailServer.add('shard.acme.com', 'mdom_20');
      const bob = {
        ...ada,
        id: 'mbx_20',
        address: 'bob@shard.acme.com',
        domainId: 'mdom_20',
        status: 'active',
      } as const;
      await mailServer.putMailbox({ ...bob, provider: 'sendmux-ses', version: 1 });
      const relaysNow = async () => [await relayOf('@shard.acme.com'), await relayOf('bob@shard.acme.com')].flat();
      expect(await relaysNow()).toEqual(['[ses-1]:587', '[ses-1]:587']);
      await mailServer.chooseProvider('mdom_20', null, 2, { relay: 'sendmux-ses-us-1' });
      expect(await relaysNow()).toEqual(['[ses-2]:587', '[ses-2]:587']);
      await mailServer.chooseProvider('mdom_20', 'mailgun', 3, { relay: 'sendmux-ses-us-1' });
      expect(await relaysNow()).toEqual(['[mailgun]:587', '[ses-2]:587']);
      // The relay stays while a domain is in the shard.
      expect(await mailServer.replaceProviders(new Map([...relays].slice(0, 1)))).toContain('sendmux-ses-us-1');
      await mailServer.chooseProvider('mdom_20', 'sendmux-ses', 4, { relay: 'sendmux-ses' });
      expect(await relaysNow()).toEqual(['[ses-1]:587', '[ses-1]:587']);
      await mailServer.remove('shard.acme.com', 'mdom_20');
    });

    it('knows the relay of a sender: that of the mailbox, else of its domain, else Sendmux SES', async () => {
      const relays = new Map([
        ['sendmux-ses', 'email-smtp.eu-west-1.amazonaws.com:587'],
        ['mailgun', 'smtp.eu.mailgun.org:587'],
        ['own', '[::1]:2525'],
      ]);
      expect(await mailServer.replaceProviders(relays)).toEqual([]);
      const [ses, mailgun] = ['[email-smtp.eu-west-1.amazonaws.com]:587', '[smtp.eu.mailgun.org]:587'];
      expect(await relayOf('@box.acme.com')).toEqual([ses]);
      await mailServer.chooseProvider('mdom_10', 'mailgun', 5);
      await mailServer.chooseProvider('mdom_10', null, 4);
      expect(await relayOf('@box.acme.com')).toEqual([mailgun]);
      expect(await relayOf('eve@box.acme.com')).toEqual([]);
      const eve = { ...ada, id: 'mbx_3', address: 'eve@box.acme.com', domainId: 'mdom_10', status: 'active' } as const;
      await mailServer.putMailbox({ ...eve, provider: 'own', version: 2 });
      expect(await relayOf('eve@box.acme.com')).toEqual(['[::1]:2525']);

      // A provider that a mailbox or a domain uses stays; the others are removed.
      expect(await mailServer.replaceProviders(new Map([['sendmux-ses', 'ses:25']]))).toEqual(['mailgun', 'own']);
      await mailServer.putMailbox({ ...eve, provider: null, version: 3 });
      expect(await mailServer.replaceProviders(new Map([['sendmux-ses', 'ses:25']]))).toEqual(['mailgun']);
      // A domain that was removed does not count as a user.
      await mailServer.remove('box.acme.com', 'mdom_10');
      expect(await mailServer.replaceProviders(new Map([['sendmux-ses', 'ses:25']]))).toEqual([]);
      await mailServer.add('box.acme.com', 'mdom_11');
      expect(await relayOf('@box.acme.com')).toEqual(['[ses]:25']);
    });
  });

  it('gives up on a locked table in time, and continues when it is free', async () => {
    const other = new Client({ connectionString: database.url });
    await other.connect();
    await other.query('BEGIN; LOCK TABLE mail_domains');
    await expect(mailServer.add('slow.acme.com', 'mdom_3')).rejects.toThrow(MailServerUnavailable);
    await other.query('ROLLBACK');
    await other.end();
    expect(await mailServer.add('slow.acme.com', 'mdom_3')).toEqual({ outcome: 'added' });
  });

  it('throws when the database is away', async () => {
    const nowhere = new MailServer({ url: 'postgres://127.0.0.1:1/none', timeoutMs: 300 });
    await expect(nowhere.ping()).rejects.toThrow(MailServerUnavailable);
    await nowhere.close();
  });

  it('does not wait for a server that accepts connections and never answers', async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    await new Promise<void>((ready) => silent.listen(0, '127.0.0.1', ready));
    const { port } = silent.address() as AddressInfo;
    const hung = new MailServer({ url: `postgres://127.0.0.1:${port}/none`, timeoutMs: 300 });
    await expect(hung.add('mail.acme.com', 'mdom_1')).rejects.toThrow(MailServerUnavailable);
    for (const socket of sockets) socket.destroy();
    await new Promise((closed) => silent.close(closed));
    await hung.close();
  });

  it('recovers when the database does, even as an empty one', async () => {
    const other = new Client({ connectionString: database.url });
    await other.connect();
    await other.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC');
    await other.end();
    await expect(mailServer.owner('slow.acme.com')).rejects.toThrow(MailServerDenied);
    // An operator is told what is missing, and makes it.
    await expect(mailServer.checkTables()).rejects.toThrow(/9 migrations are missing.*Run `bin\/sendmux migrate`/);
    await migrate(database.url, mailServerMigrations);
    expect(await mailServer.add('back.acme.com', 'mdom_4')).toEqual({ outcome: 'added' });
  });

  it('is not used, and no process with it starts, while tables are missing; one that is away lets it start', async () => {
    const fresh = await testDatabase();
    const early = new MailServer({ url: fresh.url });
    await expect(early.checkTables()).rejects.toThrow(/^The tables of MAIL_SERVER_DATABASE_URL are older than release/);
    await expect(early.add('early.acme.com', 'mdom_1')).rejects.toThrow(MailServerDenied);
    await migrate(fresh.url, mailServerMigrations);
    await early.checkTables();
    expect(await early.add('early.acme.com', 'mdom_1')).toEqual({ outcome: 'added' });
    await early.close();
    await fresh.drop();
    const nowhere = new MailServer({ url: 'postgres://127.0.0.1:1/none', timeoutMs: 300 });
    await nowhere.checkTables();
    await nowhere.close();
  });

  it.each(['UTF8', 'LATIN1'])('takes what Postfix sends for UTF-8, though it calls it %s', async (encoding) => {
    const client = new Client({ connectionString: database.url });
    await client.connect();
    await mailServer.ping();
    await client.query(`SET client_encoding = '${encoding}'`);
    // The driver always sends UTF-8, as Postfix does; the result is ASCII.
    const key = async (address: string) => {
      const sql = `SELECT encode(convert_to(mail_key($1), 'UTF8'), 'hex') AS octets`;
      return Buffer.from((await client.query<{ octets: string }>(sql, [address])).rows[0]!.octets, 'hex').toString();
    };
    expect(await key('zoë用户@mail.acme.com')).toBe('zoë用户@mail.acme.com');
    expect(await key('zoe\u0308@mail.acme.com')).toBe('zoë@mail.acme.com');
    await client.end();
  });

  it('takes over the shared domain where an operator has put it in by hand', async () => {
    const fresh = await testDatabase();
    await migrate(fresh.url, mailServerMigrations.slice(0, 1));
    const client = new Client({ connectionString: fresh.url });
    await client.connect();
    await client.query(`INSERT INTO mail_domains (domain, domain_id) VALUES ('myagent.mx', 'by hand')`);
    await client.end();
    await migrate(fresh.url, mailServerMigrations);
    const upgraded = new MailServer({ url: fresh.url });
    expect(await upgraded.owner(sharedDomain)).toBe(sharedDomainId);
    await upgraded.close();
    await fresh.drop();
  });

  // docs/operations/postfix.md tells operators to create this role for Postfix.
  it('lets Postfix read the active domains, by a role that can do nothing else', async () => {
    const fragment = readFileSync(join(__dirname, '../../docs/operations/postfix.md'), 'utf8');
    const query = /query = (SELECT .*)/.exec(fragment)![1]!.replace("'%s'", '$1::text');
    const roleSql = /```sql\n([\s\S]*?)```/.exec(fragment)![1]!;
    await mailServer.add('mail.acme.com', 'mdom_5');
    const role = `postfix_${database.url.split('_').at(-1)}`;
    const admin = new Client({ connectionString: database.url });
    await admin.connect();
    await admin.query(roleSql.replaceAll('postfix_ro', role));
    await admin.query(`SET ROLE ${role}`);
    const found = async (name: string) => (await admin.query(query, [name])).rows.length;
    expect(await found('mail.acme.com')).toBe(1);
    expect(await found('acme.com')).toBe(0);
    for (const view of ['mail_recipients', 'mail_relays', 'mail_roles']) await admin.query(`SELECT * FROM ${view}`);
    for (const forbidden of [
      'DELETE FROM mail_domains',
      'SELECT * FROM mail_mailboxes',
      'SELECT * FROM mail_providers',
      'SELECT * FROM mail_domain_owners',
    ])
      await expect(admin.query(forbidden)).rejects.toThrow('permission denied');
    await admin.query(`RESET ROLE; UPDATE mail_domains SET active = false; SET ROLE ${role}`);
    expect(await found('mail.acme.com')).toBe(0);
    await admin.query(`RESET ROLE; DROP OWNED BY ${role}; DROP ROLE ${role}`);
    await admin.end();
  });
});
