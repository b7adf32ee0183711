import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { Client } from 'pg';
import { testDatabase, type TestDatabase } from '../../test/support/test-database';
import { MailServer, MailServerUnavailable } from './mail-server';

describe('the mail server', () => {
  let database: TestDatabase;
  let mailServer: MailServer;

  beforeAll(async () => {
    database = await testDatabase();
    mailServer = new MailServer({ url: database.url, timeoutMs: 500 });
  });
  afterAll(async () => {
    await mailServer.close();
    await database.drop();
  });

  it('adds once, however often it is asked', async () => {
    expect(await mailServer.add('mail.acme.com', 'mdom_1')).toEqual({ outcome: 'added' });
    expect(await mailServer.add('mail.acme.com', 'mdom_1')).toEqual({ outcome: 'added' });
    expect(await mailServer.owner('mail.acme.com')).toBe('mdom_1');
  });

  it('names the owner of a row that is not ours, and neither takes nor removes it', async () => {
    expect(await mailServer.add('mail.acme.com', 'mdom_2')).toEqual({ outcome: 'foreign', domainId: 'mdom_1' });
    await mailServer.remove('mail.acme.com', 'mdom_2');
    expect(await mailServer.owner('mail.acme.com')).toBe('mdom_1');
  });

  it('removes its own, and what is not there', async () => {
    await mailServer.remove('mail.acme.com', 'mdom_1');
    await mailServer.remove('mail.acme.com', 'mdom_1');
    expect(await mailServer.owner('mail.acme.com')).toBeUndefined();
  });

  it('gives up on a locked table in time, and goes on when it is free', async () => {
    const other = new Client({ connectionString: database.url });
    await other.connect();
    await other.query('BEGIN; LOCK TABLE mail_domains');
    await expect(mailServer.add('slow.acme.com', 'mdom_3')).rejects.toThrow(MailServerUnavailable);
    await other.query('ROLLBACK');
    await other.end();
    expect(await mailServer.add('slow.acme.com', 'mdom_3')).toEqual({ outcome: 'added' });
  });

  it('says so when the database is not there', async () => {
    const nowhere = new MailServer({ url: 'postgres://127.0.0.1:1/none', timeoutMs: 300 });
    await expect(nowhere.ping()).rejects.toThrow(MailServerUnavailable);
    await nowhere.close();
  });

  it('does not wait for a server that takes connections and says nothing', async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    await new Promise<void>((ready) => silent.listen(0, '127.0.0.1', ready));
    const { port } = silent.address() as AddressInfo;
    const hung = new MailServer({ url: `postgres://127.0.0.1:${port}/none`, timeoutMs: 300 });
    const startedAt = performance.now();
    await expect(hung.add('mail.acme.com', 'mdom_1')).rejects.toThrow(MailServerUnavailable);
    expect(performance.now() - startedAt).toBeLessThan(1_500);
    for (const socket of sockets) socket.destroy();
    await new Promise((closed) => silent.close(closed));
    await hung.close();
  });

  it('comes back by itself when the database does, even as a new one', async () => {
    const other = new Client({ connectionString: database.url });
    await other.connect();
    await other.query('DROP TABLE mail_domains, migrations');
    await other.end();
    await expect(mailServer.owner('slow.acme.com')).rejects.toThrow(MailServerUnavailable);
    expect(await mailServer.add('back.acme.com', 'mdom_4')).toEqual({ outcome: 'added' });
  });

  it('is one table for several processes that start at once', async () => {
    const fresh = await testDatabase();
    const several = [1, 2, 3].map(() => new MailServer({ url: fresh.url }));
    const answers = await Promise.all(several.map((each, i) => each.add('race.acme.com', `mdom_${i}`)));
    expect(answers.filter(({ outcome }) => outcome === 'added')).toHaveLength(1);
    const owner = await several[0]!.owner('race.acme.com');
    for (const answer of answers) if (answer.outcome === 'foreign') expect(answer.domainId).toBe(owner);
    await Promise.all(several.map((each) => each.close()));
    await fresh.drop();
  });

  // What docs/operations/postfix.md tells operators to give Postfix.
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
    expect(await found('MAIL.acme.com')).toBe(1);
    expect(await found('acme.com')).toBe(0);
    await expect(admin.query('DELETE FROM mail_domains')).rejects.toThrow('permission denied');
    await admin.query(`RESET ROLE; UPDATE mail_domains SET active = false; SET ROLE ${role}`);
    expect(await found('mail.acme.com')).toBe(0);
    await admin.query(`RESET ROLE; DROP OWNED BY ${role}; DROP ROLE ${role}`);
    await admin.end();
  });
});
