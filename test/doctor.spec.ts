import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { CreateTenantCommand, SESv2Client } from '@aws-sdk/client-sesv2';
import { openPool } from '@app/database';
import { EventStore } from '@app/event-store';
import { KafkaClient, kafkaSettingNames, kafkaSettings, type KafkaAdmin } from '@app/messaging';
import { completeEnvironment, loadSettings } from '@app/runtime';
import { Logger } from '@nestjs/common';
import { checks } from '../apps/cli/doctor/checks';
import { resolvers, type Probes } from '../apps/cli/doctor/checks/resolvers';
import { ses } from '../apps/cli/doctor/checks/ses';
import type { Check, Level } from '../apps/cli/doctor/check';
import { diagnose, type Line } from '../apps/cli/doctor/diagnose';
import { migrateEverything } from '../apps/cli/migrations';
import { bindIsInstalled, signZone, startBind, startValidatingBind, type Bind } from './support/bind';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { pgBouncerIsInstalled, startPgBouncer, type PgBouncer } from './support/pgbouncer';
import { PostgresServer } from './support/postgres-server';
import { allApps, allAppsOnKafka, startSystem, type System } from './support/processes';
import { testDatabase, type TestDatabase } from './support/test-database';

const program = resolve(__dirname, '../bin/sendmux');

/** What a fault was made by: settings, and what undoes it. */
interface Fault {
  readonly env?: NodeJS.ProcessEnv;
  readonly now?: () => number;
  readonly undo?: () => unknown;
}

describe('sendmux doctor', () => {
  let kafka: SharedKafka | undefined;
  /** One that writes to the disk before it acknowledges, as the server of all suites does not. */
  let server: PostgresServer;
  /** A database of the server of all suites. */
  let unsafe: string;
  let system: System;
  let directory: string;
  /** A database that nobody uses. */
  let empty: TestDatabase;
  let pooler: PgBouncer | undefined;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    directory = mkdtempSync(join(tmpdir(), 'doctor-'));
    kafka = kafkaIsInstalled() ? await sharedKafka() : undefined;
    unsafe = process.env.TEST_DATABASE_URL!;
    server = await PostgresServer.make({ max_connections: '500' });
    process.env.TEST_DATABASE_URL = server.url;
    empty = await testDatabase();
    pooler = pgBouncerIsInstalled() ? await startPgBouncer(empty.url) : undefined;
    system = await startSystem({
      ...(kafka && { brokers: kafka.brokers }),
      apps: [...(kafka ? allAppsOnKafka : allApps), 'sealer', 'webhooks'],
      together: 'all',
      pooled: false,
      env: (port) => ({ AUDIT_SEAL_INTERVAL: '200ms', AUDIT_TOPIC: `seals-${port}-${Date.now()}` }),
    });
    // The AWS SDK looks there, in the process of this test.
    process.env.AWS_ACCESS_KEY_ID ??= 'sandbox';
    process.env.AWS_SECRET_ACCESS_KEY ??= 'sandbox';
    const { api } = await system.team();
    expect((await api.add('mail.acme.com')).status).toBe(201);
    expect((await api.call('POST', '/webhooks', { url: 'https://example.com/' })).status).toBe(201);
  });
  afterAll(async () => {
    await system?.end();
    await pooler?.stop();
    await empty?.drop();
    await server?.remove();
    rmSync(directory, { recursive: true, force: true });
  });

  const environment = (more: NodeJS.ProcessEnv = {}) => completeEnvironment({ ...system.settings, ...more });
  async function look(names: readonly string[], { env, now }: Fault = {}, all: readonly Check[] = checks) {
    const chosen = all.filter(({ name }) => names.includes(name));
    expect(chosen.length).toBe(names.length);
    return (await Promise.all(diagnose(chosen, environment(env), now))).flat();
  }
  async function sendmux(args: string[], env: NodeJS.ProcessEnv = {}) {
    const child = spawn(program, args, { env: { ...system.settings, ...env } });
    const [stdout, stderr, [status]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'exit') as Promise<[number | null]>,
    ]);
    return { status, stdout, stderr };
  }

  it('says ok of every part of an installation that is well, and changes nothing', async () => {
    const pool = openPool(system.databaseUrl, 1);
    const state = async () => {
      const { rows } = await pool.query<object>(
        'SELECT (SELECT count(*) FROM events) AS events, (SELECT count(*) FROM migrations) AS migrations',
      );
      return rows;
    };
    const before = [await state(), await system.sandbox.identities()];
    let lines: Line[] = [];
    // The last events are being sealed, and the groups read for the first time.
    await system.until('all is well', async () => {
      const { status, stdout, stderr } = await sendmux(['doctor', '--json']);
      ({ lines } = JSON.parse(stdout) as { lines: Line[] });
      const failed = lines.filter(({ level }) => level === 'failed');
      expect({ status, stderr, failed }).toEqual({ status: 0, stderr: '', failed: [] });
      return lines.every(({ level }) => level === 'ok' || level === 'skipped');
    });
    expect(lines.filter(({ level }) => level === 'skipped').map(({ check, of }) => [check, of])).toEqual([
      ...(kafka ? [] : [['kafka', undefined]]),
      ['keys', 'Domain Connect'],
    ]);
    expect([...new Set(lines.map(({ check }) => check))]).toEqual(checks.map(({ name }) => name));
    expect([await state(), await system.sandbox.identities()]).toEqual(before);
    await pool.end();
  });

  it('prints a line for each, and ends with 1 where one has failed', async () => {
    const password = new URL(system.databaseUrl).password;
    const { status, stdout, stderr } = await sendmux(['doctor'], { SMTP_URL: `smtp://u:${password}@127.0.0.1:1` });
    expect(status).toBe(1);
    expect(stderr).toBe('sendmux: One line has failed.\n');
    expect(stdout).toMatch(/^failed {3}smtp +SMTP_URL: .*ECONNREFUSED.*\. Start the server, or name the host/m);
    expect(stdout).toMatch(/^ok {7}settings {2,}\d+ of \d+ are set/m);
    for (const secret of [password, system.settings.PERSONAL_DATA_KEYS!.slice('test='.length)])
      expect(stdout).not.toContain(secret);
    expect((await sendmux(['doctor', '--nonsense'])).status).toBe(2);
  });

  const changed = (setting: string, change: (url: URL) => void) => {
    const url = new URL(system.settings[setting]!);
    change(url);
    return { env: { [setting]: url.href } };
  };
  /** Sets a setting of the server for the session. */
  const session = (setting: string, option: string) =>
    changed(setting, (url) => url.searchParams.set('options', `-c ${option}`));
  const sandbox = async (...fault: Parameters<System['sandbox']['fault']>): Promise<Fault> => {
    await system.sandbox.fault(...fault);
    return { undo: () => system.sandbox.allWell() };
  };
  /** A shard with tenants, of which the account has one. */
  const withTenants = async (fault: Parameters<System['sandbox']['fault']>[1]): Promise<Fault> => {
    const client = new SESv2Client({ region: 'eu-west-1', endpoint: system.settings.AWS_ENDPOINT_URL_SESV2! });
    await client.send(new CreateTenantCommand({ TenantName: `team_${Date.now()}` }));
    client.destroy();
    const SES_SHARDS = JSON.stringify([
      { name: 'default', region: 'eu-west-1', tenantConfigurationSet: 'customers', callsPerSecond: 20 },
    ]);
    return { ...(await sandbox('ses', fault)), env: { SES_SHARDS } };
  };
  const key = (octet: number) => Buffer.alloc(32, octet).toString('base64');
  function keyFile(type: 'ed25519' | 'x25519'): string {
    const file = join(directory, `${type}.pem`);
    const { privateKey } = generateKeyPairSync(type as 'ed25519');
    writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    return file;
  }

  const faults: readonly [
    what: string,
    check: string,
    level: Level,
    message: RegExp,
    make: () => Fault | Promise<Fault>,
  ][] = [
    [
      'a setting that cannot be used',
      'settings',
      'failed',
      /^PORT must be a number.*docs\/settings\.md/,
      () => ({ env: { PORT: 'x' } }),
    ],
    [
      'a file of a secret that is missing',
      'settings',
      'failed',
      /^DATABASE_URL_FILE: \/nonexistent is missing/,
      () => ({ env: { DATABASE_URL: '', DATABASE_URL_FILE: '/nonexistent' } }),
    ],
    [
      'a clock that is ahead',
      'clock',
      'failed',
      /is (599|600)\.\d s ahead of it\. Have NTP set/,
      () => ({ now: () => Date.now() + 600_000 }),
    ],
    [
      'a clock that is behind',
      'clock',
      'warning',
      /is \d+\.\d s behind it\. Have NTP set/,
      () => ({ now: () => Date.now() - 10_000 }),
    ],
    [
      'a wrong password of the database',
      'database',
      'failed',
      /^DATABASE_URL: password authentication failed .*Set the password that its user has/,
      () => changed('DATABASE_URL', (url) => (url.password = 'wrong')),
    ],
    [
      'a database that is not there',
      'database',
      'failed',
      /does not exist\. Create the database/,
      () => changed('DATABASE_URL', (url) => (url.pathname = '/nowhere')),
    ],
    [
      'a database that acknowledges what it has not written',
      'database',
      'failed',
      /^synchronous_commit is off.*Set it to on/,
      () => session('DATABASE_URL', 'synchronous_commit=off'),
    ],
    [
      'a database that a crash of its machine breaks',
      'database',
      'failed',
      /^full_page_writes is off.*Turn it on/,
      () => ({ env: { DATABASE_URL: unsafe } }),
    ],
    [
      'a database that loses what it has acknowledged by a crash of its machine',
      'database',
      'failed',
      /^fsync is off.*Turn it on/,
      () => ({ env: { DATABASE_URL: unsafe } }),
    ],
    [
      'a database that takes no writes',
      'database',
      'failed',
      /^default_transaction_read_only is on/,
      () => session('DATABASE_URL', 'default_transaction_read_only=on'),
    ],
    [
      'a database that isolates otherwise',
      'database',
      'warning',
      /^default_transaction_isolation is serializable/,
      () => session('DATABASE_URL', 'default_transaction_isolation=serializable'),
    ],
    [
      'two ways to different databases',
      'database ways',
      'failed',
      /lead to different databases/,
      () => ({ env: { DATABASE_DIRECT_URL: empty.url } }),
    ],
    [
      'no tables',
      'database tables',
      'failed',
      /older than release .* migrations are missing.*Run `bin\/sendmux migrate`/,
      () => ({ env: { DATABASE_URL: empty.url } }),
    ],
    [
      'the tables of a later release',
      'database tables',
      'warning',
      /those of release 9\.0\.0\. This is .* which works on them/,
      async () => {
        const pool = openPool(system.databaseUrl, 1);
        await pool.query(`INSERT INTO schema_releases (release, oldest) VALUES ('9.0.0', '0.1.0')`);
        const undo = async () => {
          await pool.query(`DELETE FROM schema_releases WHERE release = '9.0.0'`);
          await pool.end();
        };
        return { undo };
      },
    ],
    [
      'no tables of the mail server',
      'mail server tables',
      'failed',
      /older than release .* migrations are missing.*Run `bin\/sendmux migrate`/,
      () => ({ env: { MAIL_SERVER_DATABASE_URL: empty.url } }),
    ],
    [
      'a mail server whose database is closed',
      'mail server',
      'failed',
      /^MAIL_SERVER_DATABASE_URL: .*ECONNREFUSED.*Start the server/,
      () => changed('MAIL_SERVER_DATABASE_URL', (url) => (url.port = '1')),
    ],
    ['a resolver that lies', 'resolver', 'failed', /makes answers up/, () => sandbox('doh-a', { mode: 'lie' })],
    [
      'a resolver that denies',
      'resolver',
      'failed',
      /denies VERIFICATION_CANARY, which another one finds/,
      () => sandbox('doh-b', { mode: 'nxdomain' }),
    ],
    [
      'a resolver that fails',
      'resolver',
      'failed',
      /gives no answer \(status 500\)/,
      () => sandbox('doh-a', { mode: 'http_500' }),
    ],
    [
      'a resolver that hangs',
      'resolver',
      'failed',
      /gives no answer \(no answer within/,
      () => sandbox('doh-b', { mode: 'hang' }),
    ],
    [
      'a canary that is not published',
      'resolver',
      'warning',
      /publish a TXT record at canary\.example\.com/,
      () => ({ env: { VERIFICATION_CANARY: 'canary.example.com' } }),
    ],
    [
      'a resolver that filters',
      'resolver',
      'failed',
      /It filters/,
      async () => {
        await system.sandbox.set('malware.testcategory.com', 'A', ['0.0.0.0']);
        return { undo: () => system.sandbox.set('malware.testcategory.com', 'A', []) };
      },
    ],
    [
      'a right that SES denies',
      'ses',
      'failed',
      /SES refuses DeleteEmailIdentity .*Allow ses:DeleteEmailIdentity/,
      () => sandbox('ses', { mode: 'deny', operations: ['DeleteEmailIdentity'] }),
    ],
    [
      'a right about tenants that SES denies, by its own name',
      'ses',
      'failed',
      /SES refuses ListTenants .*Allow ses:ListTenants/,
      () => withTenants({ mode: 'deny', operations: ['ListTenants'] }),
    ],
    [
      'a right that putting a domain into a tenant needs',
      'ses',
      'failed',
      /Allow ses:CreateTenantResourceAssociation/,
      () => withTenants({ mode: 'deny', operations: ['CreateTenantResourceAssociation'] }),
    ],
    [
      'a right that a domain from before the tenants needs',
      'ses',
      'failed',
      /Allow ses:PutEmailIdentityConfigurationSetAttributes/,
      () => withTenants({ mode: 'deny', operations: ['PutEmailIdentityConfigurationSetAttributes'] }),
    ],
    [
      'an account that SES refuses whatever it is asked',
      'ses',
      'failed',
      /LimitExceededException.*Look at the account in the console of AWS/,
      () => sandbox('ses', { mode: 'full' }),
    ],
    [
      'an account that SES does not describe',
      'ses',
      'warning',
      /allow ses:GetAccount/,
      () => sandbox('ses', { mode: 'deny', operations: ['GetAccount'] }),
    ],
    [
      'an SES that is down',
      'ses',
      'failed',
      /SES gave no answer to ListEmailIdentities.*the state of AWS/,
      () => sandbox('ses', { mode: 'error' }),
    ],
    [
      'a shard that is full',
      'ses',
      'failed',
      /It has 1 of 1 identities: add a shard/,
      () => ({ env: { SES_SHARDS: JSON.stringify([{ name: 'default', region: 'eu-west-1', capacity: 1 }]) } }),
    ],
    [
      'an SMTP server that is closed',
      'smtp',
      'failed',
      /ECONNREFUSED.*Start the server/,
      () => ({ env: { SMTP_URL: 'smtp://127.0.0.1:1' } }),
    ],
    [
      'a server that does not speak SMTP',
      'smtp',
      'failed',
      /^SMTP_URL: /,
      () => ({ env: { SMTP_URL: `smtps://127.0.0.1:${new URL(system.settings.SMTP_URL!).port}` } }),
    ],
    [
      'another key of webhooks',
      'keys',
      'failed',
      /opens none of the secrets/,
      () => ({ env: { WEBHOOK_SECRET_KEYS: `test=${key(99)}` } }),
    ],
    ['no keys of personal data', 'keys', 'failed', /do not start without/, () => ({ env: { PERSONAL_DATA_KEYS: '' } })],
    [
      'a key of seals that nobody trusts',
      'keys',
      'warning',
      /lacks the public key/,
      () => ({ env: { AUDIT_SIGNING_KEY_FILE: keyFile('ed25519') } }),
    ],
    [
      'a key of seals of another kind',
      'keys',
      'failed',
      /expected an Ed25519 private key/,
      () => ({ env: { AUDIT_SIGNING_KEY_FILE: keyFile('x25519') } }),
    ],
  ];
  it.each(faults)('finds %s', async (_, check, level, message, make) => {
    const fault = await make();
    try {
      const found = (await look([check], fault)).filter((line) => line.level !== 'ok' && line.level !== 'skipped');
      expect(found).toContainEqual(
        expect.objectContaining({ level, message: expect.stringMatching(message) as string }),
      );
      for (const line of found) expect(line.message).toMatch(/\.$/);
      expect(found.every((line) => line.check === check)).toBe(true);
    } finally {
      await fault.undo?.();
    }
  });

  it('says of SES that calls of the apps left no turn, and not that SES does not answer', async () => {
    const pool = openPool(system.databaseUrl, 1);
    await pool.query(`UPDATE ses_turns SET next_at = now() + interval '3 s'`);
    await pool.end();
    const found = await look(['ses'], {}, [ses(500)]);
    expect(found).toContainEqual(
      expect.objectContaining({
        level: 'warning',
        message: expect.stringMatching(/^Not all calls could be tried.*run it again/) as string,
      }),
    );
    expect(found.some(({ level }) => level === 'failed')).toBe(false);
  });

  (pgBouncerIsInstalled() ? it : it.skip)(
    'finds a pooler in the way of sessions, and one without time limits',
    async () => {
      const through = pooler!.through(system.databaseUrl);
      expect(await look(['database ways'], { env: { DATABASE_URL: through } })).toEqual([
        {
          check: 'database ways',
          level: 'failed',
          message: expect.stringMatching(/Set DATABASE_DIRECT_URL/) as string,
        },
      ]);
      expect(
        await look(['database ways'], { env: { DATABASE_URL: through, DATABASE_DIRECT_URL: system.databaseUrl } }),
      ).toEqual([{ check: 'database ways', level: 'warning', message: expect.stringMatching(/ALTER ROLE/) as string }]);
    },
  );

  it('finds consumers, tasks and seals that are late, and parked messages', async () => {
    const late = await testDatabase();
    await migrateEverything(late.url, empty.url);
    const pool = openPool(late.url, 1);
    await pool.query(`INSERT INTO tasks (list, key, kind, payload, due)
      VALUES ('notifier', 'a', 'Tell', '{}', now() - interval '5 minutes')`);
    await pool.query(`INSERT INTO parked_messages (consumer_group, message, raw, error, attempts)
      VALUES ('notifier', 'a/1', '{}', 'Strange', 1)`);
    const time = new Date(Date.now() - 20 * 60_000).toISOString();
    await new EventStore(pool).append({
      stream: 'mdom_late',
      expectedVersion: 0,
      events: [{ type: 'DomainAdded', schemaVersion: 1, data: {}, time }],
      metadata: { actor: 'test', correlationId: 'c' },
    });
    const env = { DATABASE_URL: late.url, KAFKA_BROKERS: '' };
    const found = (await look(['lag'], { env })).map(({ level, of, message }) => `${level} ${of}: ${message}`);
    expect(found).toEqual([
      expect.stringMatching(/^failed provisioning: It has never read the log, .* waits for 20 min/),
      expect.stringMatching(/^failed verification-scheduler: /),
      expect.stringMatching(/^failed notifier: /),
      expect.stringMatching(/^failed webhooks: /),
      expect.stringMatching(/^warning tasks of notifier: 1 tasks are due, the oldest for 5 min/),
      expect.stringMatching(/^warning notifier: 1 messages are parked: `sendmux parked list --group notifier`/),
      expect.stringMatching(/^warning seals: The log is not sealed above position 0/),
    ]);
    await pool.query(`INSERT INTO checkpoints (name, position) SELECT 'provisioning', max(position) FROM events`);
    expect((await look(['lag'], { env })).some(({ of }) => of === 'provisioning')).toBe(false);
    await pool.end();
    await late.drop();
  });

  (kafkaIsInstalled() ? describe : describe.skip)('on Kafka', () => {
    let admin: KafkaAdmin;
    const topic = `doctor-${Date.now()}`;

    beforeAll(async () => {
      const settings = loadSettings(environment(), kafkaSettingNames);
      admin = await new KafkaClient(kafkaSettings(settings)!, 'test').admin();
      await admin.ensureTopic({ topic, partitions: 1, replication: 1 });
    });
    afterAll(() => admin?.close());

    it.each([
      ['loses events', { 'retention.ms': '86400000' }, 'failed', /^retention\.ms is 86400000, .* set it to -1\./],
      ['is compacted', { 'cleanup.policy': 'compact' }, 'failed', /^cleanup\.policy is compact/],
      ['takes short events alone', { 'max.message.bytes': '1000' }, 'warning', /^max\.message\.bytes is 1000/],
    ] as const)('finds a topic that %s', async (_, values, level, message) => {
      await admin.setTopicSettings(topic, new Map(Object.entries(values)));
      await system.until('the brokers have it', async () => {
        const found = await look(['kafka'], { env: { KAFKA_TOPIC: topic } });
        return found.some((line) => line.of === topic && line.level === level && message.test(line.message));
      });
    });

    it('finds a topic that is not there, and brokers that are away', async () => {
      expect(await look(['kafka'], { env: { KAFKA_TOPIC: 'nowhere' } })).toContainEqual(
        expect.objectContaining({ level: 'warning', of: 'nowhere' }),
      );
      expect(await look(['kafka'], { env: { KAFKA_BROKERS: '127.0.0.1:1' } })).toEqual([
        {
          check: 'kafka',
          level: 'failed',
          message: expect.stringMatching(/ECONNREFUSED.*Mend KAFKA_BROKERS/) as string,
        },
      ]);
    });
  });
});

/** Asks real resolvers. Skipped where BIND is not installed: tools/install-counterparts. */
(bindIsInstalled() ? describe : describe.skip)('sendmux doctor, of resolvers that are BIND', () => {
  let authority: Bind;
  let validating: Awaited<ReturnType<typeof startValidatingBind>>;
  const zoneOf = (name: string) => `$TTL 60
@ SOA ns.${name}. hostmaster.${name}. 1 3600 600 86400 60
@ NS ns
@ A 192.0.2.1
@ TXT "here"
ns A 127.0.0.1
`;
  const probes: Probes = { signed: 'signed.com', bogus: 'broken.com', filtered: 'plain.com' };

  beforeAll(async () => {
    const signed = signZone('signed.com', zoneOf('signed.com'));
    const { anchor } = signZone('broken.com', zoneOf('broken.com'));
    authority = await startBind([], {
      'signed.com': signed.text,
      'broken.com': signZone('broken.com', zoneOf('broken.com')).text,
      'plain.com': zoneOf('plain.com'),
    });
    validating = await startValidatingBind(authority, [signed.anchor, anchor]);
  });
  afterAll(() => {
    validating?.stop();
    authority?.stop();
  });

  async function look(...urls: string[]): Promise<string[]> {
    const env = { SENDMUX_DATA_DIR: '/nonexistent', DOH_RESOLVERS: urls.join(','), VERIFICATION_CANARY: 'plain.com' };
    const lines = (await Promise.all(diagnose([resolvers(probes)], env))).flat();
    return lines.map(({ level, message }) => `${level} ${message}`);
  }

  it('says of one that validates that it does, and of another one that it does not', async () => {
    const [first, ...others] = await look(validating.dohUrl, authority.dohUrl);
    expect(first).toMatch(/^ok It finds the canary and makes nothing up; it validates DNSSEC/);
    expect(others).toEqual([
      expect.stringMatching(/^warning It does not say that signed answers are right \(the AD bit\)/),
      expect.stringMatching(/^warning It gives an answer whose signature is wrong/),
    ]);
  });

  it('wants two of them', async () => {
    expect(await look(validating.dohUrl)).toContainEqual(expect.stringMatching(/^warning DOH_RESOLVERS names one/));
  });
});
