import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Accounts } from '@app/accounts';
import { DomainCommandHandler, MailboxCommandHandler } from '@app/commands';
import { openPool, thisRelease } from '@app/database';
import { EventStore } from '@app/event-store';
import {
  AddDomain,
  CompleteDeletion,
  CompleteProvisioning,
  CompleteRollback,
  FailProvisioning,
  ReleaseDomain,
} from '@app/mail-domain';
import { CreateMailbox, DeleteMailbox } from '@app/mailbox';
import { domainsProjection, mailboxesProjection, Quotas } from '@app/read-model';
import { newId } from '@app/runtime';
import { SecretKeys, WebhookEndpoints } from '@app/webhooks';
import { Logger } from '@nestjs/common';
import { SMTPServer } from 'smtp-server';
import { commandsTo } from './support/commands';
import { mailboxKeysIn } from './support/mailbox-keys';
import { testDatabase, type TestDatabase } from './support/test-database';

const program = resolve(__dirname, '../bin/sendmux');

// Each call of the command line is a process of its own.

describe('sendmux', () => {
  let directory: string;
  let database: TestDatabase;
  let mailServer: TestDatabase;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    directory = mkdtempSync(join(tmpdir(), 'sendmux-cli-'));
    database = await testDatabase();
    mailServer = await testDatabase();
  });
  afterAll(async () => {
    await database.drop();
    await mailServer.drop();
    rmSync(directory, { recursive: true });
  });

  function sendmux(args: string[], env: NodeJS.ProcessEnv = {}, command = program) {
    const { status, stdout, stderr } = spawnSync(command, args, {
      cwd: directory,
      encoding: 'utf8',
      env: {
        PATH: process.env.PATH,
        SENDMUX_DATA_DIR: directory,
        DATABASE_URL: database.url,
        MAIL_SERVER_DATABASE_URL: mailServer.url,
        ...env,
      },
    });
    return { status, stdout, stderr };
  }
  function json<T>(...args: string[]): T {
    const { status, stdout, stderr } = sendmux([...args, '--json']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    return JSON.parse(stdout) as T;
  }
  interface Key {
    id: string;
    key: string;
    hint: string;
    revokedAt: string | null;
  }

  it('says that the tables are missing, and creates them', () => {
    expect(sendmux(['team', 'list'])).toEqual({
      status: 3,
      stdout: '',
      stderr: 'sendmux: The database has no tables yet. Run `sendmux migrate` first.\n',
    });
    const unmade = sendmux(['migrate', '--check']);
    expect(unmade).toMatchObject({
      status: 1,
      stdout: expect.stringMatching(/^DATABASE_URL: CreateEvents1770000000000 is missing\n/) as string,
      stderr: expect.stringMatching(/^sendmux: \d+ migrations are missing\. Run `sendmux migrate`/) as string,
    });
    const made = sendmux(['migrate']);
    expect(made).toMatchObject({ status: 0, stdout: 'The tables are up to date.\n' });
    // Each with its time, as soon as it is done.
    expect(made.stderr.replace(/, \d+\.\d{3} s$/gm, ' is missing')).toBe(unmade.stdout);
    expect(json('migrate', '--check')).toEqual({ missing: [] });
    expect(json('migrate')).toEqual({ migrated: true, release: thisRelease.version, migrations: [] });
    expect(sendmux(['events', 'partition'])).toEqual({
      status: 0,
      stdout: 'The log is partitioned already.\n',
      stderr: '',
    });
    expect(sendmux(['events', 'partition', '--size', '7'])).toMatchObject({ status: 2 });
    expect(sendmux(['events', 'archive', '--before', '-365d', '--dry-run'])).toMatchObject({
      status: 0,
      stdout: 'No partition is closed, sealed and old enough, and not archived yet.\n',
    });
    expect(sendmux(['events', 'archive', '--before', '-2d', '--dry-run'])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('events of 40 days always stay') as string,
    });
    expect(sendmux(['events', 'archives'])).toMatchObject({ stdout: 'Nothing of the log is in archives.\n' });
    expect(sendmux(['team', 'list']).stdout).toContain('There is no team yet');
  });

  it('manages teams and their owners', () => {
    const { id } = json<{ id: string }>('team', 'create', 'Acme Pty Ltd', '--owner', 'Ada@acme.com', 'ops@acme.com');
    expect(sendmux(['team', 'list']).stdout).toMatch(new RegExp(`^TEAM .*\n${id}  Acme Pty Ltd  \\d{4}-`));
    expect(json('team', 'owners', id)).toEqual({ team: id, owners: ['Ada@acme.com', 'ops@acme.com'] });
    const changed = sendmux([
      'team',
      'owners',
      id,
      '--add',
      'grace@acme.com',
      '--remove',
      'ada@acme.com',
      'ops@acme.com',
    ]);
    expect(changed).toEqual({ status: 0, stdout: 'grace@acme.com\n', stderr: '' });
    const last = sendmux(['team', 'owners', id, '--remove', 'grace@acme.com']);
    expect(last).toMatchObject({ status: 1, stdout: '' });
    expect(last.stderr).toMatch(/^sendmux: grace@acme\.com is the only owner .*\n$/);
  });

  it('lists webhooks, disables one, encrypts their secrets anew, and removes those of a deleted team', async () => {
    const [old, recent] = [7, 9].map((octet) => Buffer.alloc(32, octet));
    const setting = (ring: Record<string, Buffer>) => ({
      WEBHOOK_SECRET_KEYS: Object.entries(ring)
        .map(([id, key]) => `${id}=${key.toString('base64')}`)
        .join(','),
    });
    const { id: team } = json<{ id: string }>('team', 'create', 'Webhooks', '--owner', 'Ada@acme.com');
    expect(sendmux(['webhooks', 'list', '--team', team]).stdout).toBe('There is no webhook.\n');
    const pool = openPool(database.url, 2);
    const accounts = new Accounts(pool);
    const endpoints = new WebhookEndpoints(pool, {
      keys: new SecretKeys(new Map([['old', old!]])),
      head: () => Promise.resolve(0),
      inTeam: (id, work) => accounts.inTeam(id, work),
      mostOfATeam: 9,
    });
    const choices = { description: 'CRM', eventTypes: ['domain.failed'], domains: null, enabled: true };
    const make = (url: string) => endpoints.create(newId('whk'), team, { ...choices, url });
    const [one, other] = [await make('https://hooks.acme.com/?token=hidden'), await make('https://acme.com/hooks')];
    const { id } = one.webhook;

    const list = sendmux(['webhooks', 'list', '--team', team]).stdout;
    expect(list).toMatch(new RegExp(`^${id}  ${team}  enabled .*  https://hooks\\.acme\\.com/\\?…$`, 'm'));
    expect(list).not.toContain('hidden');
    expect(json<object[]>('webhooks', 'list')).toHaveLength(2);
    expect(sendmux(['webhooks', 'show', id]).stdout).toContain('Types        domain.failed\n');
    expect(sendmux(['webhooks', 'disable', id]).stdout).toContain(`${id}  of ${team}: disabled\n`);
    expect(json('webhooks', 'show', id)).toMatchObject({ enabled: false, version: 2 });
    expect(sendmux(['webhooks', 'show', 'whk_none'])).toEqual({
      status: 1,
      stdout: '',
      stderr: 'sendmux: There is no webhook whk_none.\n',
    });

    expect(sendmux(['webhooks', 'reseal'])).toMatchObject({ status: 3 });
    const reseal = (ring: Record<string, Buffer>) => sendmux(['webhooks', 'reseal'], setting(ring));
    expect(reseal({ recent: recent! })).toMatchObject({
      status: 1,
      stdout: expect.stringContaining('"old", which WEBHOOK_SECRET_KEYS does not name') as string,
    });
    expect(reseal({ recent: recent!, old: old! }).stdout).toBe(
      'The secrets of 2 webhooks are now encrypted with the key "recent".\n',
    );
    const nothing = 'There was nothing to encrypt anew with the key "recent".\n';
    expect(reseal({ recent: recent! })).toEqual({ status: 0, stdout: nothing, stderr: '' });
    expect(reseal({ recent: old! })).toMatchObject({
      status: 1,
      stdout: expect.stringContaining('does not open with the key "recent"') as string,
    });

    expect(sendmux(['team', 'delete', team, '--yes']).stdout).toContain(
      `Webhooks removed: ${id}, ${other.webhook.id}\n`,
    );
    expect(json('webhooks', 'list')).toEqual([]);
    await pool.end();
  });

  it('shows and sets what a team may have, and deletes one that has nothing', async () => {
    const { id } = json<{ id: string }>('team', 'create', 'Quotas', '--owner', 'Ada@acme.com');
    const { id: key } = json<Key>('key', 'create', '--team', id, '--role', 'root:full');
    const shown = (...args: string[]) => sendmux(['team', 'quota', id, ...args]);
    expect(shown()).toEqual({ status: 0, stdout: 'domains: 0\nmailboxes: 0\n', stderr: '' });
    const pool = openPool(database.url, 2);
    await new Quotas(pool).setCommon({ perTeam: { domains: 20, mailboxes: 30 }, domainsInAll: 90 });
    expect(shown('--domains', '89').stdout).toBe('domains: 0 of 89\nmailboxes: 0 of 30\n');
    expect(shown('--domains', '90')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('MAX_DOMAINS is 90') as string,
    });
    expect(shown('--domains', '90', '--mailboxes', '7').status).toBe(2);
    expect(shown().stdout).toBe('domains: 0 of 89\nmailboxes: 0 of 30\n');
    expect(shown('--domains', 'default', '--mailboxes', '7').stdout).toBe('domains: 0 of 20\nmailboxes: 0 of 7\n');

    const commands = commandsTo(
      new DomainCommandHandler(new EventStore(pool, domainsProjection)),
      new MailboxCommandHandler(new EventStore(pool, mailboxesProjection), mailboxKeysIn(pool)),
    );
    const context = { at: new Date().toISOString(), actor: 'key_1', correlationId: 'req_1' };
    const [domain, mailbox] = [newId('mdom'), newId('mbx')];
    await commands.execute(new AddDomain(domain, { name: 'acme.com', team: id, deadline: context.at }, context));
    const address = `ada-${id.slice('team_'.length)}@myagent.mx`;
    const data = { address, team: id, home: null, provider: null };
    await commands.execute(new CreateMailbox(mailbox, data, context));
    expect(sendmux(['team', 'list']).stdout).toMatch(new RegExp(`^${id}  Quotas .* UTC  1 of 20  1 of 7$`, 'm'));

    const remove = () => sendmux(['team', 'delete', id, '--yes']);
    expect(sendmux(['team', 'delete', id])).toMatchObject({ status: 2, stdout: '' });
    const inUse = (what: string) => ({
      status: 1,
      stdout: '',
      stderr: `sendmux: ${id} still has ${what}. Delete them first.\n`,
    });
    expect(remove()).toEqual(inUse(`1 domain (acme.com) and 1 mailbox (${address})`));
    await commands.execute(new DeleteMailbox(mailbox, context));
    const failure = { step: 'ses', kind: 'refused', reason: 'No.' } as const;
    await commands.execute(new FailProvisioning(domain, failure, context));
    expect(remove()).toEqual(inUse('1 domain (acme.com, on its way out)'));
    expect(shown().stdout).toBe('domains: 1 of 20\nmailboxes: 0 of 7\n');
    await commands.execute(new CompleteRollback(domain, context));
    const lost = newId('mdom');
    await commands.execute(new AddDomain(lost, { name: 'lost.com', team: id, deadline: context.at }, context));
    const identity = { dkimTokens: ['a', 'b', 'c'], dkimZone: 'z', sesRegion: 'r', sesDkimStatus: 'pending' } as const;
    await commands.execute(new CompleteProvisioning(lost, identity, context));
    const release = { claim: 'claim_1', ownership: 'absent', graceMs: 0 } as const;
    await commands.execute(new ReleaseDomain(lost, release, context));
    expect(remove()).toEqual(inUse('1 domain (lost.com, on its way out)'));
    await commands.execute(new CompleteDeletion(lost, context));
    await pool.end();

    const gone = remove();
    expect(gone).toMatchObject({ status: 0, stderr: '' });
    expect(gone.stdout).toMatch(
      new RegExp(`^${id}  Quotas  is deleted since .* UTC\\.\nRevoked: ${key}\nNo owners any more: Ada@acme\\.com\n$`),
    );
    expect(remove().stdout).toBe(gone.stdout.split('\n')[0] + '\n');
    expect(shown()).toMatchObject({ status: 1, stderr: `sendmux: There is no team ${id}.\n` });
    expect(sendmux(['team', 'list']).stdout).not.toContain(id);
    expect(sendmux(['team', 'list', '--deleted']).stdout).toMatch(new RegExp(`^${id}  Quotas `, 'm'));
    expect(json<Key[]>('key', 'list', '--team', id)[0]!.revokedAt).not.toBeNull();
  });

  it('shows a key once, alone on standard output, with the requested permissions', async () => {
    const { id: team } = json<{ id: string }>('team', 'create', 'Keys', '--owner', 'ada@acme.com');
    const made = sendmux(['key', 'create', '--team', team, '--permission', 'domain.read', 'domain.verify']);
    expect(made.status).toBe(0);
    expect(made.stdout).toMatch(/^smx_root_\w{42}\n$/);
    expect(made.stderr).toMatch(/^key_\w+, domain\.read domain\.verify\. Keep the key: it is never shown again\.\n$/);
    const full = json<Key>('key', 'create', '--team', team, '--role', 'root:full', '--name', 'Terraform');

    const list = sendmux(['key', 'list', '--team', team]).stdout;
    expect(list).toMatch(new RegExp(`${full.id}  ${full.hint} +Terraform +root:full`));
    expect(list).not.toContain(full.key);

    const pool = openPool(database.url, 1);
    const accounts = new Accounts(pool);
    expect(await accounts.authenticate(full.key)).toMatchObject({ team, keyId: full.id });
    expect(sendmux(['key', 'revoke', full.id]).stdout).toMatch(new RegExp(`^${full.id} is revoked since `));
    expect(await accounts.authenticate(full.key)).toBeUndefined();
    await pool.end();
    expect(json<Key[]>('key', 'list', '--team', team).map(({ revokedAt }) => revokedAt !== null)).toEqual([
      false,
      true,
    ]);
  });

  it('rotates a key: the new one is alone on standard output, and the old one works for a while', () => {
    const { id: team } = json<{ id: string }>('team', 'create', 'Rotation', '--owner', 'ada@acme.com');
    const old = json<Key>('key', 'create', '--team', team, '--role', 'root:readonly');
    const made = sendmux(['key', 'rotate', old.id]);
    expect(made.stdout).toMatch(/^smx_root_\w{42}\n$/);
    expect(made.stderr).toMatch(
      new RegExp(`^key_\\w+, root:readonly\\. Keep the key.* ${old.id} ends on .* UTC\\.\n$`),
    );
    const states = () => sendmux(['key', 'list', '--team', team]).stdout.split('\n').slice(1, 3);
    expect(states()).toEqual([expect.stringMatching(/ends \d{4}-/), expect.not.stringContaining('end')]);
    expect(json<{ rotated: { id: string } }>('key', 'rotate', old.id, '--overlap', '0s')).toMatchObject({
      rotated: { id: old.id },
    });
    expect(states()[0]).toMatch(/ended \d{4}-/);
    expect(sendmux(['key', 'rotate', old.id])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/its time is over: there is nothing to rotate/) as string,
    });
  });

  it('invites an owner by mail, who is one only after accepting', async () => {
    const mails: string[] = [];
    const server = new SMTPServer({
      disabledCommands: ['AUTH', 'STARTTLS'],
      onData: (stream, _session, done) => {
        const parts: Buffer[] = [];
        stream.on('data', (part: Buffer) => parts.push(part));
        stream.on('end', () => (mails.push(Buffer.concat(parts).toString()), done()));
      },
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    const { port } = server.server.address() as AddressInfo;
    /** Runs asynchronously, unlike `spawnSync`, because the SMTP server is in this process. */
    const invite = (smtpPort: number, ...args: string[]) =>
      new Promise<{ status: number | null; stderr: string }>((resolve) => {
        const child = spawn(program, ['owner', 'invite', ...args], {
          cwd: directory,
          env: {
            PATH: process.env.PATH,
            SENDMUX_DATA_DIR: directory,
            DATABASE_URL: database.url,
            SMTP_URL: `smtp://127.0.0.1:${smtpPort}`,
          },
        });
        let stderr = '';
        child.stderr.on('data', (text: Buffer) => (stderr += text.toString()));
        child.once('close', (status) => resolve({ status, stderr }));
      });

    const { id } = json<{ id: string }>('team', 'create', 'Invitations', '--owner', 'ada@acme.com');
    const away = await invite(1, id, 'grace@acme.com');
    expect(away).toMatchObject({ status: 1 });
    expect(away.stderr).toMatch(
      /is invited, but the mail could not be sent .* Send it again with `sendmux owner invite /,
    );
    expect(await invite(port, id, 'Grace@acme.com')).toEqual({ status: 0, stderr: '' });
    expect(mails).toHaveLength(1);
    const text = mails[0]!.replaceAll('=\r\n', '').replaceAll('=3D', '=');
    expect(text).toMatch(/^To: Grace@acme\.com\r$/m);
    expect(text).toContain('Subject: You are invited to be an owner of Invitations');
    const token = /smx_invite_\w{42}/.exec(text)![0];
    expect(json('owner', 'list', id)).toMatchObject({
      owners: ['ada@acme.com'],
      invited: [{ email: 'Grace@acme.com' }],
    });
    expect(json('owner', 'accept', token)).toEqual({ team: id, email: 'Grace@acme.com' });
    expect(sendmux(['owner', 'accept', token])).toMatchObject({ status: 1, stdout: '' });

    expect(await invite(port, id, 'eve@acme.com')).toMatchObject({ status: 0 });
    expect(sendmux(['owner', 'withdraw', id, 'eve@acme.com']).stdout).toBe(
      `eve@acme.com is no longer invited to ${id}.\n`,
    );
    expect(sendmux(['owner', 'remove', id, 'ada@acme.com']).stdout).toBe('Grace@acme.com\n');
    expect(sendmux(['owner', 'remove', id, 'grace@acme.com']).stderr).toMatch(/is the only owner/);
    await new Promise<void>((closed) => server.close(closed));
  });

  const wrong: [string[], number, RegExp][] = [
    [['team', 'create', 'Acme'], 2, /required option '--owner <email\.\.\.>' not specified/],
    [['team', 'create', 'Acme', '--owner', 'ada'], 1, /Not an e-mail address: "ada"/],
    [['team', 'lst'], 2, /unknown command 'lst' \(Did you mean list\?\)/],
    [['team', 'owners', 'team_0000000000'], 1, /There is no team team_0000000000/],
    [['team', 'delete', 'team_0000000000', '--yes'], 1, /There is no team team_0000000000/],
    [['team', 'quota', 'team_0000000000', '--domains', '1'], 1, /There is no team team_0000000000/],
    [['team', 'quota', 'team_0000000000', '--domains', '-1'], 2, /--domains -1 is neither a number from 0/],
    [['key', 'create', '--team', 'team_0000000000'], 2, /A key needs --role or --permission/],
    [['key', 'create', '--team', 't', '--role', 'a', '--permission', 'b'], 2, /cannot be used with/],
    [['key', 'create', '--team', 'team_0000000000', '--role', 'root'], 1, /There is no role "root"/],
    [['key', 'revoke', 'key_0'], 1, /There is no key key_0/],
    [['key', 'rotate', 'key_0', '--overlap', 'soon'], 2, /--overlap soon is no duration/],
    [['owner', 'accept', 'smx_invite_0'], 1, /There is no such invitation/],
  ];
  it.each(wrong)('%j ends with %i and one line', (args, status, message) => {
    const plain = sendmux(args);
    expect(plain).toMatchObject({ status, stdout: '' });
    expect(plain.stderr).toMatch(/^sendmux: .*\n$/);
    expect(plain.stderr).toMatch(message);
  });

  it.each(wrong.slice(0, 4))('%j --json ends with %i and one JSON document', (args, status, message) => {
    const scripted = sendmux([...args, '--json']);
    expect(scripted).toMatchObject({ status, stdout: '' });
    const { error } = JSON.parse(scripted.stderr) as { error: { code: string; message: string } };
    expect(error.message).toMatch(message);
    expect(error.code).toMatch(/^[a-z_]+$/);
  });

  it('says what is wrong with the database', () => {
    expect(sendmux(['team', 'list'], { DATABASE_URL: '' })).toMatchObject({
      status: 3,
      stderr: expect.stringMatching(/^sendmux: .*DATABASE_URL is not set.*make start.*\n$/) as string,
    });
    const away = { DATABASE_URL: 'postgres://sendmux:x@127.0.0.1:1/sendmux' };
    expect(sendmux(['team', 'list'], away)).toMatchObject({
      status: 3,
      stderr: expect.stringMatching(/^sendmux: No database answers .*\n$/) as string,
    });
  });

  it('runs from anywhere and through links', () => {
    const link = join(directory, 'sendmux');
    symlinkSync(program, link);
    symlinkSync('sendmux', join(directory, 'link-to-link'));
    expect(sendmux(['team', 'list'], {}, join(directory, 'link-to-link')).status).toBe(0);
  });
});
