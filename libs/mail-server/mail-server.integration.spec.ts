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
});
