import { setTimeout as sleep } from 'node:timers/promises';
import type { AddressInfo } from 'node:net';
import { Logger } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Accounts, invitationTasks, Invitations, setupMailTasks, SetupLinks, type SetupLink } from '@app/accounts';
import type { Connection } from '@app/database';
import { DomainCommandHandler } from '@app/commands';
import type { CommandContext } from '@app/decider';
import {
  AddDomain,
  CompleteIdentityRepair,
  CompleteProvisioning,
  MoveIdentity,
  PrepareIdentityMove,
  RecordCheck,
  RequestDeletion,
  RequestIdentityRepair,
  SwitchIdentity,
  type DomainCommand,
  schemaVersions,
} from '@app/mail-domain';
import { type Assessment, checkNames, recordsWithStatus } from '@app/mail-records';
import { EventStore } from '@app/event-store';
import { consumeEvents } from '@app/messaging';
import { DomainsReadModel } from '@app/read-model';
import { createApp } from '@app/process';
import { loadSettings, newId } from '@app/runtime';
import { TaskList } from '@app/tasks';
import { WebhookLanes } from '@app/webhooks';
import { simpleParser, type ParsedMail } from 'mailparser';
import { createTransport } from 'nodemailer';
import { Pool } from 'pg';
import { SMTPServer } from 'smtp-server';
import { commandsTo } from '../../test/support/commands';
import { migratedDatabase } from '../../test/support/migrated-database';
import type { TestDatabase } from '../../test/support/test-database';
import { Deliveries } from './deliveries';
import { escape } from './failure-mail';
import { Notifier } from './notifier';
import { NotifierModule } from './notifier.module';
import { OwnerMailer } from './owner-mailer';
import { TeamFailures } from './team-failures';

interface Caught {
  readonly to: string;
  readonly from: string;
  readonly mail: ParsedMail;
}

let database: TestDatabase;
let app: NestFastifyApplication | undefined;
/** An app that provides its components to the tests; it neither reads events nor runs tasks. */
let parts: NestFastifyApplication;
let sink: SMTPServer;
let smtpUrl: string;
let inbox: Caught[];
/** Gives the status code with which the SMTP sink refuses a recipient, or undefined to accept. */
let refuse: (address: string) => number | undefined;
let log: string[];
/** The lines that the app logged below the level of a warning. */
let lines: object[];

const settings = (from?: string) =>
  loadSettings({
    DATABASE_URL: database.url,
    MAIL_SERVER_DATABASE_URL: database.url,
    SMTP_URL: smtpUrl,
    LOG_LEVEL: 'silent',
    DOH_RESOLVERS: 'http://127.0.0.1:1/dns-query',
    NOTIFY_FROM: from ?? 'Sendmux <notify@platform.example>',
  });
const describeApp = (from?: string) => ({ host: '127.0.0.1', port: 0, module: NotifierModule.forRoot(settings(from)) });

async function startNotifier(from?: string): Promise<void> {
  app = await createApp({
    ...describeApp(from),
    configure: (created) => {
      created.useLogger({
        log: (fields: object, text: string) => lines.push({ text, ...fields }),
        debug: () => undefined,
        warn: (text: string) => log.push(text),
        error: (text: string) => log.push(text),
      });
      return consumeEvents(created, 'notifier', schemaVersions, settings(from));
    },
  });
  await app.init();
}

async function stopNotifier(): Promise<void> {
  await app?.close();
  app = undefined;
}

beforeAll(async () => {
  database = await migratedDatabase('service');
  sink = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS', 'AUTH'],
    onRcptTo: ({ address }, _session, callback) => {
      const responseCode = refuse(address);
      callback(responseCode ? Object.assign(new Error(`not <${address}>`), { responseCode }) : null);
    },
    onData: (stream, { envelope }, callback) => {
      simpleParser(stream).then((mail) => {
        const [to] = envelope.rcptTo;
        inbox.push({ to: to!.address, from: envelope.mailFrom ? envelope.mailFrom.address : '', mail });
        callback();
      }, callback);
    },
  });
  await new Promise<void>((ready) => sink.listen(0, '127.0.0.1', ready));
  smtpUrl = `smtp://127.0.0.1:${(sink.server.address() as AddressInfo).port}`;
  parts = await createApp(describeApp());
  Logger.overrideLogger(false);
});

beforeEach(() => {
  inbox = [];
  log = [];
  lines = [];
  refuse = () => undefined;
});

afterEach(stopNotifier);

afterAll(async () => {
  await new Promise<void>((closed) => sink.close(closed));
  await parts.close();
  await database.drop();
});

const context = (): CommandContext => ({ at: new Date().toISOString(), actor: 'test', correlationId: 'c' });
/** Makes a bus of its own for the commands, because the app is not started and its bus has no handlers. */
const commands = () => commandsTo(parts.get(DomainCommandHandler));
const run = (command: DomainCommand) => commands().execute(command);

const look = (name: string, mx: 'pass' | 'fail'): Assessment => ({
  sesDkimStatus: 'success',
  findings: checkNames.map((check) => ({
    check,
    outcome: check === 'mx' ? mx : 'pass',
    code: 'c',
    message: 'Add the MX record.',
    name,
    type: 'MX',
    expected: '10 mail.sendmux.ai',
    observed: check === 'mx' && mx === 'fail' ? ['10 mx.other.example'] : [],
  })),
});
let cycle = 0;
const check = (id: string, name: string, mx: 'pass' | 'fail') =>
  run(new RecordCheck(id, { ...look(name, mx), trigger: 'scheduled', cycle: (cycle += 1) }, context()));

async function verifiedDomain(team: string, name = `d${(cycle += 1)}.example.com`) {
  const id = newId('mdom');
  await run(new AddDomain(id, { name, team, deadline: context().at }, context()));
  await run(
    new CompleteProvisioning(
      id,
      { dkimTokens: ['a', 'b', 'c'], dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1', sesDkimStatus: 'success' },
      context(),
    ),
  );
  await check(id, name, 'pass');
  return { id, name };
}

/** Adds a domain of a new team, and records looks by which it is verified and then fails. */
async function failedDomain(owners: string[], name?: string, seen: (look: Assessment) => Assessment = (look) => look) {
  const { id: team } = await parts.get(Accounts).createTeam('Acme', owners.length > 0 ? owners : ['gone@example.net']);
  if (owners.length === 0) await parts.get(Pool).query('DELETE FROM owners WHERE team = $1', [team]);
  const domain = await verifiedDomain(team, name);
  await check(domain.id, domain.name, 'fail');
  const again = { ...seen(look(domain.name, 'fail')), trigger: 'scheduled' as const, cycle: (cycle += 1) };
  await run(new RecordCheck(domain.id, again, context()));
  return { ...domain, team };
}

const settled = async (id: string, episode = 1): Promise<string | undefined> => {
  const { rows } = await parts
    .get(Pool)
    .query<{ outcome: string }>('SELECT outcome FROM settled_episodes WHERE episode = $1', [`${id}/${episode}`]);
  return rows[0]?.outcome;
};
/** Reads the data of the `OwnersTold` events of a domain. */
const told = async (id: string): Promise<unknown[]> => {
  const events = await parts.get(EventStore).readStream(id);
  return events.filter(({ type }) => type === 'OwnersTold').map(({ data }) => data);
};
const receivers = (name: string, subject = 'is no longer verified') =>
  inbox
    .filter(({ mail }) => mail.subject?.startsWith(`${name} ${subject}`))
    .map(({ to }) => to)
    .sort();

async function until(condition: () => boolean | Promise<boolean>, withinMs = 60_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition.toString()}`);
    await sleep(10);
  }
}

/** Waits for what comes once tasks that have failed are tried again, and ends their back-off. */
const untilRetried = (condition: () => boolean | Promise<boolean>) =>
  until(async () => {
    const { rows } = await parts
      .get(Pool)
      .query<{ list: string; key: string }>(
        `UPDATE tasks SET due = now() WHERE due > now() AND last_error NOT LIKE 'Waits%' RETURNING list, key`,
      );
    for (const { list, key } of rows) app?.get(TaskList).changed.emit(list, key);
    return condition();
  });

it('H4 mails every owner of the team separately, once', async () => {
  await startNotifier();
  const { id, name } = await failedDomain(['ada@example.org', 'grace@example.net']);
  await until(async () => (await settled(id)) === 'told');
  expect(receivers(name)).toEqual(['ada@example.org', 'grace@example.net']);
  expect(await told(id)).toEqual([{ about: 'failure', notice: 1, owners: 2 }]);
  const { mail, from } = inbox.find(({ to }) => to === 'ada@example.org')!;
  expect(from).toBe('notify@platform.example');
  expect([mail.to].flat().map((to) => to?.text)).toEqual(['ada@example.org']);
  expect(mail.headers.get('auto-submitted')).toBe('auto-generated');
  for (const part of [mail.text, mail.html || ''])
    for (const word of ['10 mail.sendmux.ai', '10 mx.other.example', 'Add the MX record.', `/domains/${id}/verify`])
      expect(part).toContain(word);
  for (const path of ['/health/live', '/health/ready']) expect((await app!.inject(path)).statusCode).toBe(200);
  expect((await app!.inject('/metrics')).body).toMatch(/sendmux_notifier_mails_total\{outcome="sent"/);
  await until(async () => /notice_seconds_bucket\{le="10",[^}]*\} 1\n/.test((await app!.inject('/metrics')).body));
});

it('mails the next failure too, and none twice when the events are read again', async () => {
  await startNotifier();
  const { id, name, team } = await failedDomain(['ada@example.org']);
  await until(async () => (await settled(id)) === 'told');
  await run(new RecordCheck(id, { ...look(name, 'pass'), trigger: 'requested', cycle: null }, context()));
  for (const mx of ['fail', 'fail'] as const) await check(id, name, mx);
  await until(async () => (await settled(id, 2)) === 'told');
  expect(receivers(name)).toHaveLength(2);
  expect(new Set(inbox.map(({ mail }) => mail.messageId)).size).toBe(2);

  await stopNotifier();
  await parts.get(Accounts).addOwners(team, ['later@example.org']);
  await parts.get(Pool).query(`UPDATE checkpoints SET position = 0 WHERE name = 'notifier'`);
  await startNotifier();
  const other = await failedDomain(['ada@example.org']);
  await until(async () => (await settled(other.id)) === 'told');
  await until(async () => (await parts.get(Pool).query('SELECT FROM tasks')).rowCount === 0);
  expect(receivers(name)).toHaveLength(2);
});

/** Makes a notifier of the app's components, for tests that call it directly. */
function notifierWith({
  deliveries = parts.get<Deliveries>(Deliveries),
  failures = parts.get<TeamFailures>(TeamFailures),
  withinMs = 60_000,
} = {}): Notifier {
  const smtp = createTransport(smtpUrl);
  const mailer = new OwnerMailer(commands(), parts.get(Accounts), deliveries, smtp, 'notify@platform.example');
  return new Notifier(parts.get(DomainCommandHandler), deliveries, mailer, { failures, withinMs }, 7 * 86_400_000);
}

it('sends at most one mail twice when it dies before the mail is recorded', async () => {
  const { id, name } = await failedDomain(['ada@example.org', 'grace@example.net', 'joan@example.net']);
  const dead = new (class extends Deliveries {
    private left = 1;
    override record(...args: Parameters<Deliveries['record']>): Promise<void> {
      return this.left-- > 0 ? super.record(...args) : new Promise(() => undefined);
    }
  })(parts.get(Pool));
  const task = { domainId: id, episode: 1, at: context().at, failing: look(name, 'fail').findings };
  void notifierWith({ deliveries: dead }).tell(task, new AbortController().signal);
  await until(() => inbox.length === 2);
  await startNotifier();
  await until(async () => (await settled(id)) === 'told');
  expect(receivers(name)).toEqual(['ada@example.org', 'grace@example.net', 'grace@example.net', 'joan@example.net']);
  const twice = inbox.filter(({ to }) => to === 'grace@example.net');
  expect(twice[0]!.mail.messageId).toBe(twice[1]!.mail.messageId);
  expect(await told(id)).toEqual([{ about: 'failure', notice: 1, owners: 3 }]);
});

it('records the notice after a crash, and mails nobody again', async () => {
  const { id, name } = await failedDomain(['ada@example.org']);
  const dead = new (class extends Deliveries {
    override settle(): Promise<void> {
      return new Promise(() => undefined);
    }
  })(parts.get(Pool));
  const task = { domainId: id, episode: 1, at: context().at, failing: look(name, 'fail').findings };
  void notifierWith({ deliveries: dead }).tell(task, new AbortController().signal);
  await until(async () => (await told(id)).length === 1);
  await startNotifier();
  await until(async () => (await settled(id)) === 'told');
  expect(await told(id)).toEqual([{ about: 'failure', notice: 1, owners: 1 }]);
  expect(receivers(name)).toEqual(['ada@example.org']);
});

it('retries a mail that is refused temporarily, and mails the others meanwhile', async () => {
  let busy = 1;
  refuse = (address) => (address === 'ada@example.org' && busy-- > 0 ? 451 : undefined);
  await startNotifier();
  const { id, name } = await failedDomain(['ada@example.org', 'grace@example.net']);
  await until(() => receivers(name).length === 1);
  expect(receivers(name)).toEqual(['grace@example.net']);
  await untilRetried(async () => (await settled(id)) === 'told');
  expect(receivers(name)).toEqual(['ada@example.org', 'grace@example.net']);
  expect(log.join('\n')).toContain('[address]');
  expect(log.join('\n')).not.toContain('ada@');
});

it('retries when the server demands a login, which an operator has to repair', async () => {
  let closed = 1;
  refuse = () => (closed-- > 0 ? 530 : undefined);
  await startNotifier();
  const { id, name } = await failedDomain(['ada@example.org']);
  await untilRetried(async () => (await settled(id)) === 'told');
  expect(receivers(name)).toEqual(['ada@example.org']);
});

it('names the records that could not be judged in the look that failed the domain, and not in a later one', async () => {
  const unanswered = (assessment: Assessment): Assessment => ({
    sesDkimStatus: 'temporary_failure',
    findings: assessment.findings.map((one) =>
      one.check === 'dkim' ? { ...one, outcome: 'indeterminate', code: 'dkim_temporary_failure' } : one,
    ),
  });
  const [failed, asked] = [
    await failedDomain(['ada@example.org'], 'dkim.example.com', unanswered),
    await failedDomain(['ada@example.org']),
  ];
  const later = { ...unanswered(look(asked.name, 'fail')), trigger: 'requested', cycle: null } as const;
  await run(new RecordCheck(asked.id, later, context()));
  await startNotifier();
  await until(async () => (await settled(failed.id)) === 'told' && (await settled(asked.id)) === 'told');
  const textOf = (name: string) => inbox.find(({ mail }) => mail.subject?.startsWith(`${name} `))!.mail.text!;
  expect(textOf(failed.name)).toContain('could not be checked this time');
  expect(textOf(failed.name)).toContain(`DKIM records of ${failed.name}`);
  expect(textOf(asked.name)).not.toContain('could not be checked');
});

it('logs the outcome for each domain with the correlation id', async () => {
  let busy = 1;
  refuse = () => (busy-- > 0 ? 451 : undefined);
  await startNotifier();
  const { id } = await failedDomain(['ada@example.org']);
  await untilRetried(async () => (await settled(id)) === 'told');
  const traced = { domain: id, correlation_id: 'c', episode: `${id}/1` };
  await until(() => lines.some((line) => 'text' in line && line.text === 'owners told'));
  expect(lines).toContainEqual({ ...traced, text: 'mail deferred', error: expect.stringContaining('451') as string });
  expect(lines).toContainEqual({ ...traced, text: 'owners told' });
});

it('gives up on an owner who is refused permanently, and mails the others', async () => {
  refuse = (address) => (address === 'ada@example.org' ? 550 : undefined);
  await startNotifier();
  const { id, name, team } = await failedDomain(['ada@example.org', 'grace@example.net']);
  await until(async () => (await settled(id)) === 'told');
  expect(receivers(name)).toEqual(['grace@example.net']);
  expect(log.join('\n')).toMatch(new RegExp(`Owner [0-9a-f]{32} of ${team} cannot be told of ${id}/1`));
  expect(log.join('\n')).not.toContain('ada@');
});

describe('many domains of a team', () => {
  const owners = ['ada@example.org', 'grace@example.net'];
  const team = async () => (await parts.get(Accounts).createTeam('Acme', owners)).id;
  const together = () => inbox.filter(({ mail }) => mail.subject?.includes('domains are no longer verified'));
  const allSettled = (domains: readonly { id: string }[]) =>
    untilRetried(async () =>
      (await Promise.all(domains.map(({ id }) => settled(id)))).every((outcome) => outcome === 'told'),
    );

  it('that fail in the same cycle are in one mail, sent after the last of them was looked at', async () => {
    const acme = await team();
    const domains = [];
    for (let i = 0; i < 12; i++) domains.push(await verifiedDomain(acme));
    const [well, ...broken] = domains;
    for (const { id, name } of domains) await check(id, name, 'fail');
    await startNotifier();
    const last = broken.pop()!;
    for (const { id, name } of broken) await check(id, name, 'fail');
    await until(
      async () =>
        (await parts.get(Pool).query(`SELECT FROM tasks WHERE last_error LIKE 'Waits%'`)).rowCount === broken.length,
    );
    expect(inbox).toEqual([]);

    await check(last.id, last.name, 'fail');
    await check(well!.id, well!.name, 'pass');
    // The notifier may not have read of the last failure yet, and mails what it knows of.
    const isKnown = async () =>
      (await parts.get(Pool).query('SELECT FROM tasks WHERE key LIKE $1', [`${last.id}%`])).rowCount === 1;
    await until(async () => (await isKnown()) || (await settled(last.id)) === 'told');
    // Ends the wait of all tasks.
    await parts.get(Pool).query('UPDATE tasks SET due = now()');
    await allSettled([...broken, last]);
    expect(
      together()
        .map(({ to }) => to)
        .sort(),
    ).toEqual(owners);
    expect(inbox).toHaveLength(2);
    for (const { mail } of inbox) {
      for (const { id, name } of [...broken, last]) {
        expect(mail.text).toContain(name);
        expect(mail.text).toContain(`/domains/${id}/verify`);
      }
      expect(mail.text).not.toContain(well!.name);
    }
  });

  it('are in one mail to each owner, even if one mail was refused temporarily', async () => {
    let busy = 1;
    refuse = (address) => (address === owners[0] && busy-- > 0 ? 451 : undefined);
    const acme = await team();
    const domains = [await verifiedDomain(acme), await verifiedDomain(acme)];
    for (let turn = 0; turn < 2; turn++) for (const { id, name } of domains) await check(id, name, 'fail');
    await startNotifier();
    await allSettled(domains);
    expect(
      together()
        .map(({ to }) => to)
        .sort(),
    ).toEqual(owners);
    expect(inbox).toHaveLength(2);
  });

  it('of another team are in a mail of their own, which waits for no other', async () => {
    const [acme, other] = [await team(), await team()];
    const [one, two] = [await verifiedDomain(acme), await verifiedDomain(other)];
    for (const { id, name } of [one, two]) await check(id, name, 'fail');
    await startNotifier();
    await check(one.id, one.name, 'fail');
    await allSettled([one]);
    expect(receivers(one.name)).toEqual(owners);
    expect(inbox).toHaveLength(2);
  });

  it('are not waited for longer than a cycle', async () => {
    const acme = await team();
    const [one, two] = [await verifiedDomain(acme), await verifiedDomain(acme)];
    for (const { id, name } of [one, two]) await check(id, name, 'fail');
    await check(one.id, one.name, 'fail');
    const failures = parts.get(TeamFailures);
    const at = new Date().toISOString();
    expect(await failures.areComing(acme, at)).toBe(true);
    const withinMs = 600_000;
    const notifier = notifierWith({ withinMs });
    const task = { domainId: one.id, team: acme, episode: 1, failing: look(one.name, 'fail').findings };
    const signal = new AbortController().signal;
    expect(await notifier.tell({ ...task, at }, signal)).toMatchObject({
      error: expect.stringMatching(/^Waits/) as string,
    });
    expect(await notifier.tell({ ...task, at: new Date(Date.now() - withinMs).toISOString() }, signal)).toBe('done');
    expect(receivers(one.name)).toEqual(owners);
  });

  it('are mailed by one process at a time', async () => {
    const failures = parts.get(TeamFailures);
    let inside = 0;
    const work = async () => {
      inside++;
      await sleep(50);
      return inside;
    };
    const results = await Promise.all([failures.alone('team_1', work), failures.alone('team_1', work)]);
    expect(results.sort()).toEqual([1, undefined]);
    expect(await failures.alone('team_1', work)).toBe(2);
  });

  it('are mailed no further once the lock of their team is lost, since another process may have it', async () => {
    const acme = await team();
    const { id, name } = await verifiedDomain(acme);
    for (let turn = 0; turn < 2; turn++) await check(id, name, 'fail');
    const pool = parts.get(Pool);
    const failures = new (class extends TeamFailures {
      override alone<Result>(of: string, work: (lost: AbortSignal) => Promise<Result>) {
        return super.alone(of, async (lost) => {
          const aborted = new Promise((done) => lost.addEventListener('abort', done));
          await pool.query(`SELECT pg_terminate_backend(pid) FROM pg_locks
            WHERE locktype = 'advisory' AND classid = 1853122665 AND objid = hashtext('${of}')::oid`);
          await aborted;
          return work(lost);
        });
      }
    })(pool, parts.get(DomainsReadModel), parts.get(TaskList));
    const task = { domainId: id, team: acme, episode: 1, at: context().at, failing: look(name, 'fail').findings };
    await expect(notifierWith({ failures }).tell(task, new AbortController().signal)).rejects.toThrow(/terminat/);
    expect(inbox).toEqual([]);
    expect(await notifierWith().tell(task, new AbortController().signal)).toBe('done');
    expect(receivers(name)).toEqual(owners);
  });
});

describe('an invitation that a customer asks for', () => {
  const invited = async (email: string) => {
    const { id: team } = await parts.get(Accounts).createTeam('Acme', ['ada@example.org']);
    await parts.get(Invitations).invite(team, email);
    await parts.get(TaskList).put(invitationTasks, team, 'Invite', { team, email });
    return team;
  };
  const isOver = (team: string) =>
    untilRetried(async () => (await parts.get(Pool).query('SELECT FROM tasks WHERE key = $1', [team])).rowCount === 0);

  it('is mailed with a token that accepts it, which is stored nowhere', async () => {
    await startNotifier();
    const team = await invited('grace@example.net');
    await isOver(team);
    const [{ to, mail }] = inbox as [Caught];
    expect(to).toBe('grace@example.net');
    expect(mail.text).toContain('http://127.0.0.1:3000/api/v1/invitations/accept');
    const token = /smx_invite_[0-9a-z]+/.exec(mail.text!)![0];
    expect(await parts.get(Invitations).accept(token)).toEqual({ team, email: 'grace@example.net' });
  });

  it('is mailed again after a temporary refusal, and not after a permanent one or a withdrawal', async () => {
    let busy = 1;
    refuse = (address) => (address === 'never@example.net' ? 550 : busy-- > 0 ? 451 : undefined);
    await startNotifier();
    await isOver(await invited('grace@example.net'));
    await isOver(await invited('never@example.net'));
    expect(inbox.map(({ to }) => to)).toEqual(['grace@example.net']);
    await stopNotifier();
    const team = await invited('joan@example.net');
    await parts.get(Invitations).withdraw(team, 'joan@example.net');
    await startNotifier();
    await isOver(team);
    expect(inbox.map(({ to }) => to)).toEqual(['grace@example.net']);
  });
});

describe('setup instructions that a customer asks for', () => {
  const asked = async (email: string) => {
    const { id: team } = await parts.get(Accounts).createTeam('Acme Secret Pty Ltd', ['ada@example.org']);
    const { id: domainId, name } = await verifiedDomain(team);
    const put = (made: SetupLink, client: Connection) =>
      parts.get(TaskList).put(setupMailTasks, made.id, 'Mail', { id: made.id }, undefined, client);
    const link = await parts.get(SetupLinks).createForMail(team, domainId, email, put);
    return { team, domainId, name, link };
  };
  const isOver = ({ id }: SetupLink) =>
    untilRetried(async () => (await parts.get(Pool).query('SELECT FROM tasks WHERE key = $1', [id])).rowCount === 0);

  it('are mailed with each record, and a link that opens the domain and is stored nowhere', async () => {
    await startNotifier();
    const { team, domainId, name, link } = await asked('dns@example.net');
    await isOver(link);
    const [{ to, mail }] = inbox as [Caught];
    expect([to, mail.subject]).toEqual(['dns@example.net', `DNS records to place for ${name}`]);
    const records = recordsWithStatus((await parts.get(DomainsReadModel).find(domainId, team))!, []);
    expect(records.length).toBeGreaterThanOrEqual(9);
    const token = /smx_setup_[0-9a-z]+/.exec(mail.text!)![0];
    for (const text of [mail.text!, mail.html as string]) {
      for (const record of records)
        for (const said of [record.name, record.host, record.value, record.type]) expect(text).toContain(escape(said));
      expect(text).toContain(`http://127.0.0.1:3000/setup#${token}`);
      expect(text.replaceAll(`sendmux-verify=${team}`, '')).not.toMatch(/Secret|team_|mdom_|ada@/);
    }
    expect(await parts.get(SetupLinks).find(token)).toMatchObject({ domainId, team });
    const { rows } = await parts.get(Pool).query<{ row: string }>('SELECT setup_links::text AS row FROM setup_links');
    expect(rows.map(({ row }) => row).join()).not.toContain(token);
  });

  it('are mailed again after a temporary refusal, and not once they are revoked or the domain is gone', async () => {
    let busy = 1;
    refuse = (address) => (address === 'never@example.net' ? 550 : busy-- > 0 ? 451 : undefined);
    await startNotifier();
    await isOver((await asked('dns@example.net')).link);
    await isOver((await asked('never@example.net')).link);
    await stopNotifier();
    const [revoked, deleted] = [await asked('revoked@example.net'), await asked('deleted@example.net')];
    await parts.get(SetupLinks).revoke(revoked.team, revoked.domainId, revoked.link.id);
    await run(new RequestDeletion(deleted.domainId, context()));
    await startNotifier();
    await isOver(revoked.link);
    await isOver(deleted.link);
    expect(inbox.map(({ to }) => to)).toEqual(['dns@example.net']);
  });

  it('are mailed twice at most where the process ends right after the mail was taken', async () => {
    const { link } = await asked('dns@example.net');
    const [task] = await parts.get(TaskList).claim(setupMailTasks, 1, 1);
    expect(task?.key).toBe(link.id);
    // The first attempt: mailed, and nothing recorded of it.
    const first = (await parts.get(SetupLinks).reissue(link))!;
    await startNotifier();
    await isOver(link);
    expect(inbox).toHaveLength(1);
    const token = /smx_setup_[0-9a-z]+/.exec(inbox[0]!.mail.text!)![0];
    expect(await parts.get(SetupLinks).find(token)).toMatchObject({ id: link.id });
    expect(await parts.get(SetupLinks).find(first.token)).toBeUndefined();
  });
});

it('H18 reads the owners when it sends, and alarms an operator when there are none', async () => {
  const late = await failedDomain(['ada@example.org']);
  await parts.get(Accounts).addOwners(late.team, ['grace@example.net']);
  const orphan = await failedDomain([]);
  await startNotifier();
  await until(async () => (await settled(late.id)) === 'told' && (await settled(orphan.id)) === 'no_owners');
  expect(receivers(late.name)).toEqual(['ada@example.org', 'grace@example.net']);
  expect(receivers(orphan.name)).toEqual([]);
  expect(log).toContainEqual(expect.stringContaining(`${orphan.team} has no owners`));
  expect((await app!.inject('/metrics')).body).toMatch(/sendmux_notifier_alarms_total\{reason="no_owners"/);
});

const mend = (id: string, name: string) =>
  run(new RecordCheck(id, { ...look(name, 'pass'), trigger: 'requested', cycle: null }, context()));
const isDone = async () => (await parts.get(Pool).query('SELECT FROM tasks')).rowCount === 0;

it('H8 mails a recovery once, and only to those who had the mail about the failure', async () => {
  refuse = (address) => (address === 'grace@example.net' ? 550 : undefined);
  await startNotifier();
  const { id, name, team } = await failedDomain(['ada@example.org', 'grace@example.net']);
  await until(async () => (await settled(id)) === 'told');
  await parts.get(Accounts).addOwners(team, ['later@example.org']);
  refuse = () => undefined;
  await mend(id, name);
  await until(() => receivers(name, 'is verified again').length > 0);
  // The domain lapses and is verified again without a failure, and then all events are read again.
  await check(id, name, 'fail');
  await check(id, name, 'pass');
  await stopNotifier();
  await parts.get(Pool).query(`UPDATE checkpoints SET position = 0 WHERE name = 'notifier'`);
  await startNotifier();
  const other = await failedDomain(['joan@example.net']);
  await until(async () => (await settled(other.id)) === 'told');
  await until(isDone);
  expect(receivers(name, 'is verified again')).toEqual(['ada@example.org']);
  expect(receivers(name)).toEqual(['ada@example.org']);
  expect(await told(id)).toEqual([
    { about: 'failure', notice: 1, owners: 1 },
    { about: 'recovery', notice: 1, owners: 1 },
  ]);
  const { mail } = inbox.find(({ mail: { subject } }) => subject === `${name} is verified again`)!;
  expect(mail.text).toContain('all of them match');
});

it('F9 mails new DKIM records to every owner, and nothing when the records are the same', async () => {
  await startNotifier();
  const team = (await parts.get(Accounts).createTeam('Acme', ['ada@example.org', 'grace@example.net'])).id;
  const { id, name } = await verifiedDomain(team);
  const identity = { dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1', sesDkimStatus: 'pending' as const };
  for (const dkimTokens of [
    ['a', 'b', 'c'],
    ['d', 'e', 'f'],
  ]) {
    await run(new RequestIdentityRepair(id, { fault: 'missing' }, context()));
    await run(new CompleteIdentityRepair(id, { ...identity, dkimTokens }, context()));
  }
  await until(() => receivers(name, 'needs new DKIM records').length === 2);
  expect(receivers(name, 'needs new DKIM records')).toEqual(['ada@example.org', 'grace@example.net']);
  const [{ mail }] = inbox as [Caught];
  for (const part of [mail.text, mail.html || ''])
    for (const token of ['d', 'e', 'f'])
      expect(part).toContain(`${token}._domainkey.${name} CNAME ${token}.dkim.amazonses.com`);
  await until(async () => (await parts.get(Pool).query('SELECT FROM tasks')).rowCount === 0);
  expect(inbox).toHaveLength(2);
  expect(await told(id)).toEqual([{ about: 'new_records', notice: 8, owners: 2 }]);
});

describe('a domain that has moved to another shard of SES', () => {
  const moved = async (sesRegion: string) => {
    const { id: team } = await parts.get(Accounts).createTeam('Acme', ['ada@example.org', 'grace@example.net']);
    const { id, name } = await verifiedDomain(team);
    await run(new MoveIdentity(id, { from: 'default', to: 'us-1' }, context()));
    const identity = { dkimTokens: ['d', 'e', 'f'], dkimZone: 'dkim.amazonses.com', sesRegion };
    await run(new PrepareIdentityMove(id, { ...identity, mailFromDomain: `bounce.${name}` }, context()));
    await run(new SwitchIdentity(id, context()));
    return { id, name };
  };
  const changesMx = 'needs another MX record';
  const noTasks = async () => (await parts.get(Pool).query('SELECT FROM tasks')).rowCount === 0;

  it('has its owners told of the other MX record where the Region is another one, once each', async () => {
    const { id, name } = await moved('us-east-1');
    await startNotifier();
    await until(() => receivers(name, changesMx).length === 2);
    expect(receivers(name, changesMx)).toEqual(['ada@example.org', 'grace@example.net']);
    const { mail } = inbox.find((one) => one.mail.subject?.startsWith(`${name} ${changesMx}`))!;
    for (const part of [mail.text, mail.html || ''])
      expect(part).toContain(`bounce.${name} MX 10 feedback-smtp.us-east-1.amazonses.com`);
    await until(noTasks);
    // The records of the move itself are in place by then.
    expect(receivers(name, 'needs further DKIM records')).toEqual([]);
    expect(await told(id)).toEqual([{ about: 'new_records', notice: 7, owners: 2 }]);
  });

  it('has them told of nothing where the Region is the same', async () => {
    const { id, name } = await moved('eu-west-1');
    await startNotifier();
    const other = await failedDomain(['ada@example.org']);
    await until(async () => (await settled(other.id)) === 'told');
    await until(noTasks);
    expect(inbox.filter(({ mail }) => mail.subject?.includes(name))).toEqual([]);
    expect(await told(id)).toEqual([]);
  });
});

it('H8 sends no mail about a recovery after which the domain has lapsed again', async () => {
  await startNotifier();
  const { id, name } = await failedDomain(['ada@example.org']);
  await until(async () => (await settled(id)) === 'told');
  await stopNotifier();
  await mend(id, name);
  await check(id, name, 'fail');
  const recovery = { domainId: id, episode: 1, at: context().at };
  expect(await notifierWith().tellOfRecovery(recovery, new AbortController().signal)).toBe('done');
  expect(receivers(name, 'is verified again')).toEqual([]);
});

it('sends no mail about a domain that was repaired or is being deleted by then', async () => {
  const mended = await failedDomain(['ada@example.org']);
  await run(new RecordCheck(mended.id, { ...look(mended.name, 'pass'), trigger: 'requested', cycle: null }, context()));
  const deleted = await failedDomain(['ada@example.org']);
  await run(new RequestDeletion(deleted.id, context()));
  await startNotifier();
  await until(async () => (await settled(mended.id)) === 'superseded' && (await settled(deleted.id)) === 'superseded');
  expect(inbox).toEqual([]);
});

it('H20 does not send from the domain that fails', async () => {
  await startNotifier('Acme <alerts@mail.own.example>');
  const { id, name } = await failedDomain(['ada@example.org'], 'mail.own.example');
  await until(async () => (await settled(id)) === 'told');
  expect(inbox).toMatchObject([{ to: 'ada@example.org', from: 'notifications@sendmux.ai' }]);
  expect(log).toContainEqual(expect.stringContaining(`NOTIFY_FROM lies in ${name}`));
});

/** Takes the ownership record from what a look has seen. */
const gone = ({ findings, ...rest }: Assessment): Assessment => ({
  ...rest,
  findings: findings.map((each) =>
    each.check === 'verification_txt' ? { ...each, outcome: 'fail', code: 'verification_missing' } : each,
  ),
});

it('says by the mail about the failure that the ownership record is gone, and by one of its own beside an older failure', async () => {
  const { id, name } = await failedDomain(['ada@example.org'], undefined, gone);
  const news = { domainId: id, about: 'ownership_gone', version: 5, at: context().at } as const;
  const signal = new AbortController().signal;
  const { state } = await parts.get(DomainCommandHandler).load(id);
  const at = ('ownershipGoneSince' in state && state.ownershipGoneSince) || 'not gone';
  expect(at).not.toBe('not gone');
  expect(await notifierWith().tellNews({ ...news, at, hadFailed: false }, signal)).toBe('done');
  const subjects = () => inbox.map(({ mail }) => mail.subject ?? '').filter((subject) => subject.includes(name));
  expect(subjects()).toEqual([]);
  const task = { domainId: id, episode: 1, at: context().at, failing: look(name, 'fail').findings };
  await notifierWith().tell(task, signal);
  const [told] = inbox.filter(({ mail }) => mail.subject?.includes(name));
  expect(told!.mail.text).toContain(`another team may claim ${name}`);
  expect(await notifierWith().tellNews({ ...news, at, version: 6, hadFailed: true }, signal)).toBe('done');
  expect(subjects()).toEqual([
    expect.stringContaining('no longer verified'),
    `The ownership record of ${name} is gone`,
  ]);
});

it('tells once of a look that fails a domain and finds its ownership record gone', async () => {
  const { id, name } = await failedDomain(['ada@example.org'], undefined, gone);
  await startNotifier();
  await until(async () => (await settled(id)) === 'told');
  const waits = async (change: string) =>
    (await parts.get(Pool).query(`${change} WHERE kind = 'TellNews' AND starts_with(key, $1)`, [id])).rowCount !== 0;
  await until(() => waits('UPDATE tasks SET due = now()'));
  await until(async () => !(await waits('SELECT FROM tasks')));
  const subjects = inbox.map(({ mail }) => mail.subject ?? '').filter((subject) => subject.includes(name));
  expect(subjects).toEqual([expect.stringContaining('no longer verified')]);
});

describe('owners learn of a webhook that was disabled', () => {
  const disabled = async (
    owners: string[],
    because: 'gone' | 'failing',
    url = 'https://hooks.acme.com/a?token=s3cret',
  ) => {
    // A team that does not exist has no owners.
    const team = owners.length > 0 ? (await parts.get(Accounts).createTeam('Acme', owners)).id : 'team_gone';
    const id = newId('whk');
    await parts.get(Pool).query(
      `INSERT INTO webhooks (id, team, url, description, enabled, from_position, failing_since, secret, secret_key_id)
       VALUES ($1, $2, $3, 'the <b>ledger</b>', true, 0, now() - interval '5 days', '', 'a')`,
      [id, team, url],
    );
    expect(await new WebhookLanes(parts.get(Pool)).disable(id, 1, because, because === 'gone' ? 0 : 1)).toBe(true);
    return id;
  };
  const isOver = (id: string) =>
    untilRetried(
      async () => (await parts.get(Pool).query('SELECT FROM tasks WHERE key = $1', [`${id}/2`])).rowCount === 0,
    );

  it('each once, why and what to do, without what its URL may keep secret', async () => {
    let busy = 1;
    refuse = (address) => (address === 'grace@example.net' && busy-- > 0 ? 451 : undefined);
    const id = await disabled(['ada@example.org', 'grace@example.net'], 'failing');
    const { rows } = await parts
      .get(Pool)
      .query<{ at: Date }>('SELECT updated_at AS at FROM webhooks WHERE id = $1', [id]);
    const at = rows[0]!.at.toISOString();
    await startNotifier();
    await isOver(id);
    expect(inbox.map(({ to }) => to).sort()).toEqual(['ada@example.org', 'grace@example.net']);
    const { mail } = inbox[0]!;
    expect(mail.subject).toBe('Your webhook to hooks.acme.com is disabled');
    for (const text of [mail.text!, mail.html as string]) {
      for (const said of ['https://hooks.acme.com/a ', id, 'for five days', `${at.slice(11, 16)} UTC`, 'a replay'])
        expect(text).toContain(said);
      expect(text).not.toContain('s3cret');
    }
    expect(mail.html).not.toContain('<b>');
  });

  it('unless it is enabled again by then, or the team has none', async () => {
    const enabled = await disabled(['ada@example.org'], 'gone');
    await parts.get(Pool).query('UPDATE webhooks SET enabled = true, disabled_because = NULL WHERE id = $1', [enabled]);
    const orphan = await disabled([], 'gone');
    await startNotifier();
    await isOver(enabled);
    await isOver(orphan);
    expect(inbox).toEqual([]);
    expect(log).toContainEqual(expect.stringContaining('has no owners'));
  });
});
