import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openPool } from '@app/database';
import { Epochs, eventId, EventLog, EventStore, readEpochs, type Append, type RecordedEvent } from '@app/event-store';
import { newId } from '@app/runtime';
import { fromCloudEvent, KafkaClient, readTopic, type DeliveredEvent } from '@app/messaging';
import { Logger } from '@nestjs/common';
import type { Pool } from 'pg';
import type { KafkaCluster } from '../local/embedded-kafka';
import { ArchivedPostgres } from './support/archived-postgres';
import { prepare, python, Subscriber, typescript, virtualEnvironment } from './support/documented-subscriber';
import { startEndpoint, type TestEndpoint } from './support/endpoint';
import { kafkaIsInstalled, testKafka } from './support/kafka';
import { allAppsOnKafka, startSystem, type ApiClient, type AppName, type System } from './support/processes';
import { countedAndHeld, replayedAndLive } from './support/replayed-read-model';
import { sample } from './support/sample';

const program = resolve(__dirname, '../bin/sendmux');
const apps: readonly AppName[] = [...allAppsOnKafka, 'sealer', 'webhooks'];
const lostEvents = sample(2_000, 10_000);

interface Added {
  readonly data: { readonly id: string; readonly domain: string };
}

/**
 * Loses the database, takes it back to an earlier moment, and goes on: PostgreSQL from a base backup and its log, while
 * Kafka, SES, the mail server and all endpoints stay as they were. Skipped where Java or Maven is missing.
 */
(kafkaIsInstalled() ? describe : describe.skip)('a log that was restored to an earlier moment', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sendmux-restore-'));
  const venv = virtualEnvironment();
  let postgres: ArchivedPostgres;
  let kafka: KafkaCluster;
  let system: System;
  let api: ApiClient;
  let endpoint: TestEndpoint;
  const subscribers = new Map<'TypeScript' | 'Python', Subscriber>();
  /** The domains by the first label of their names. */
  const domains = new Map<string, Added>();
  /** What the topic had when the database was lost. */
  let before: DeliveredEvent[];

  const sendmux = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', env: system.settings });
    return { status, stdout, stderr };
  };
  const add = async (label: string) => {
    const { status, body } = (await api.add(`${label}.acme.com`)) as { status: number; body: unknown };
    expect({ label, status, body: status === 201 ? undefined : (body as object) }).toEqual({ label, status: 201 });
    domains.set(label, body as Added);
    return body as Added;
  };
  const idOf = (label: string) => domains.get(label)!.data.id;
  const withLog = async <T>(work: (pool: ReturnType<typeof openPool>) => Promise<T>): Promise<T> => {
    const pool = openPool(system.databaseUrl, 4);
    try {
      return await work(pool);
    } finally {
      await pool.end();
    }
  };
  const wholeLog = () =>
    withLog(async (pool) => {
      const log = new EventLog(pool);
      const events: RecordedEvent[] = [];
      for (let after = 0, isFull = true; isFull;) {
        const page = await log.read({ after, limit: 1_000 });
        events.push(...page.events);
        [after, isFull] = [page.settledUpTo, page.events.length > 0];
      }
      await log.close();
      return events;
    });
  const onTopic = async () => {
    const found: DeliveredEvent[] = [];
    await readTopic(new KafkaClient({ brokers: kafka.brokers, tls: false }, 'test'), {
      topic: system.settings.KAFKA_TOPIC!,
      group: `restore-${Date.now()}`,
      take: (messages) => found.push(...messages.map(fromCloudEvent)),
    });
    return found;
  };
  const recordsOnTopic = async () => {
    const admin = await new KafkaClient({ brokers: kafka.brokers, tls: false }, 'test').admin();
    const ends = await admin.ends(system.settings.KAFKA_TOPIC!);
    await admin.close();
    return [...ends.values()].reduce((sum, end) => sum + end, 0);
  };
  const relayed = (what: string) =>
    system.until(what, () =>
      withLog(async (pool) => {
        const { rows } = await pool.query<{ done: boolean }>(
          `SELECT (SELECT max(position) FROM checkpoints WHERE name LIKE 'event-relay %') >=
             (SELECT max(position) FROM events) AS done`,
        );
        return rows[0]!.done;
      }),
    );
  const startSubscriber = (language: 'TypeScript' | 'Python') => {
    const { file, text, commands } = language === 'Python' ? python : typescript;
    const home = join(folder, language);
    mkdirSync(home);
    writeFileSync(join(home, file), text);
    prepare(home, commands, language === 'Python' ? venv : undefined);
    const env = { KAFKA_BROKERS: kafka.brokers.join(','), KAFKA_TOPIC: system.settings.KAFKA_TOPIC! };
    subscribers.set(language, new Subscriber(`exec ${commands.at(-1)}`, home, env));
  };

  beforeAll(async () => {
    Logger.overrideLogger(false);
    [postgres, kafka] = await Promise.all([ArchivedPostgres.start(), testKafka()]);
    system = await startSystem({
      apps: [],
      brokers: kafka.brokers,
      database: { url: await postgres.database('service'), drop: () => Promise.resolve() },
      env: { AUDIT_SEAL_INTERVAL: '1s', VERIFICATION_INTERVAL: '6h', PROVISIONING_DEADLINE: '2m' },
    });
    expect(sendmux('migrate')).toMatchObject({ status: 0 });
    await Promise.all(apps.map((app) => system.start(app)));
    ({ api } = await system.team());
    endpoint = await startEndpoint();
    expect((await api.call('POST', '/webhooks', { url: endpoint.url })).status).toBe(201);
    await Promise.all(['stays', 'goes', 'held'].map(add));
    await postgres.backUp();
    await add('after-backup');
    if (venv) startSubscriber('Python');
    startSubscriber('TypeScript');
    await lose();
  });
  afterAll(async () => {
    await Promise.all([...subscribers.values()].map((each) => each.stop()));
    await system?.end();
    await endpoint?.close();
    await kafka?.destroy();
    await postgres?.destroy();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Gives an append of a life like that of a domain, under another name. */
  const like = (life: readonly RecordedEvent[], name: string): Append => ({
    stream: newId('mdom'),
    expectedVersion: 0,
    metadata: { actor: 'test', correlationId: 'test' },
    events: life.map(({ type, schemaVersion, time, data }) => ({
      type,
      schemaVersion,
      time,
      data: type === 'DomainAdded' ? { ...(data as object), name: `${name}.example.com` } : data,
    })),
  });

  /** Makes a history that is lost, beginning with an event that has a lower position than the newest one that stays. */
  async function lose(): Promise<void> {
    await withLog(async (pool) => {
      // An append that has drawn its position and is not committed.
      const holder = await pool.connect();
      const release = holder.release.bind(holder);
      holder.release = () => undefined;
      await holder.query('BEGIN');
      const ofStays = await new EventStore(pool).readStream(idOf('stays'));
      const inFlight = { query: pool.query.bind(pool), connect: () => Promise.resolve(holder) };
      await new EventStore(inFlight as unknown as Pool).append(like(ofStays, 'held'));
      await system.sandbox.place(domains.get('stays')!);
      expect((await api.verify(idOf('stays'))).body).toMatchObject({ data: { status: 'verified' } });
      await postgres.mark('moment');
      await holder.query('COMMIT');
      release();

      // What SES and the mail server have from now on, the log will not have.
      await add('lost');
      const provider = { outbound_provider: 'sendmux-ses' };
      expect((await api.call('PUT', `/domains/${idOf('held')}/outbound-provider`, provider)).status).toBe(200);
      expect((await api.delete(idOf('goes'))).status).toBe(200);
      expect((await api.call('POST', '/mailboxes', { address: 'ada@stays.acme.com' })).status).toBe(201);
      const store = new EventStore(pool);
      const life = await store.readStream(idOf('stays'));
      const [looked] = life.filter(({ type }) => type === 'DnsChecked');
      const many = Array.from({ length: lostEvents / 100 - life.length }, () => looked!);
      await Promise.all(Array.from({ length: 100 }, (_, n) => store.append(like([...life, ...many], `lost${n}`))));
    });
    await relayed('the lost history is on Kafka');
    await system.until('it is sealed', () =>
      withLog(async (pool) => {
        const { rows } = await pool.query<{ done: boolean }>(
          'SELECT (SELECT max(up_to) FROM audit_seals) >= (SELECT max(position) FROM events) AS done',
        );
        return rows[0]!.done;
      }),
    );
    before = await onTopic();
    for (const each of subscribers.values()) await each.says(/ lost\.acme\.com DomainProvisioned: /);
    const { stdout } = sendmux('audit', 'seals', '--json');
    writeFileSync(join(folder, 'witness.ndjson'), stdout);
  }

  it('is refused an epoch while anybody uses it, and then gets one', async () => {
    await Promise.all(apps.filter((app) => app !== 'sandbox').map((app) => system.stop(app)));
    await postgres.restoreTo('moment');
    await withLog(async (pool) => {
      const holder = await pool.connect();
      await holder.query('SELECT 1');
      const refused = sendmux('restore', '--reason', 'test', '--yes');
      expect(refused).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('Others use the database') as string,
      });
      holder.release();
    });
    // An event-relay that is started too early publishes nothing, and says what to do.
    const ends = await recordsOnTopic();
    const starting = system.start('event-relay').catch((error: Error) => error.message);
    await system.until('it refuses', () => system.log('event-relay').includes('its database was taken back'));
    await system.stop('event-relay');
    expect(await starting).toContain('event-relay ended');
    expect(await recordsOnTopic()).toBe(ends);
    expect(sendmux('restore').stdout).toContain('Nothing is changed.');
    const done = sendmux('restore', '--reason', 'a disk was lost', '--yes');
    expect(done).toMatchObject({ status: 0 });
    expect(done.stdout).toMatch(/^Epoch \d{10} has begun after position \d+/);
    expect(done.stdout).toContain('.provisioning');
    // A second run finds nothing to do.
    expect(sendmux('restore', '--reason', 'again', '--yes').stdout).toContain('there is nothing to do');
  });

  it('goes on, and everything that follows it ends with what it has', async () => {
    await Promise.all(apps.filter((app) => app !== 'sandbox').map((app) => system.start(app)));
    expect((await api.get(idOf('lost'))).status).toBe(404);
    expect((await api.get(idOf('goes'))).status).toBe(200);
    await add('new');
    expect((await api.call('PATCH', `/domains/${idOf('stays')}`, {})).status).toBeGreaterThanOrEqual(200);
    expect((await api.delete(idOf('after-backup'))).status).toBe(200);
    const { log, topic } = await system.until('the new history is on Kafka', async () => {
      await relayed('all is published');
      const log = await wholeLog();
      const topic = await onTopic();
      // The cycle goes on, and may have recorded something meanwhile.
      return (await wholeLog()).length === log.length ? { log, topic } : undefined;
    });
    const epochs = new Epochs(await withLog((pool) => readEpochs(pool)));
    const standing = topic.filter((event) => !epochs.isVoid(event));
    // What is not void is the log, once a message that came twice is dropped.
    const ids = new Map(standing.map((event) => [eventId(event), event.position]));
    expect([...ids].sort()).toEqual(log.map((event) => [eventId(event), event.position] as const).sort());
    // A position that was given is never given to another event, and an id never to another message.
    const all = new Map<number, Set<string>>();
    for (const { position, stream, version } of topic)
      all.set(position, (all.get(position) ?? new Set()).add(`${stream}/${version}`));
    expect([...all.values()].filter(({ size }) => size > 1)).toEqual([]);
    const lost = before.filter(({ position }) => !log.some((event) => event.position === position));
    expect(lost.length).toBeGreaterThan(lostEvents);
    const newest = Math.max(
      ...log.filter(({ position }) => before.some((e) => e.position === position)).map((e) => e.position),
    );
    // The moment was one of those in which the newest event that stays has a higher position than one that is lost.
    expect(lost.some(({ position }) => position < newest)).toBe(true);
    process.stdout.write(
      `${lost.length} events were lost, ${log.length} are there, ${topic.length - standing.length} messages are void\n`,
    );
  });

  it.each([
    ['TypeScript', typescript],
    ['Python', python],
  ] as const)('a subscriber in %s, as documented, ends with the state of the log', async (language, { text }) => {
    const subscriber = subscribers.get(language);
    if (!subscriber) return;
    // It has read thousands of lost events before.
    await subscriber.says(/ new\.acme\.com DomainProvisioned: /, sample(60_000, 300_000));
    const types = [...text.matchAll(/^ +"?(\w+)"?: (?:\(|lambda)/gm)].map(([, type]) => type);
    const end = Date.now() + 30_000;
    let held: string[];
    let expected: string[];
    do {
      await delay(200);
      held = language === 'Python' ? heldByPython() : heldByTypeScript();
      // Read each time, since the cycle goes on.
      expected = (await wholeLog())
        .filter(({ type }) => types.includes(type))
        .map(({ stream, version, time, type }) => `${stream}/${version} ${time} ${type}`)
        .sort();
    } while (Date.now() < end && held.join() !== expected.join());
    expect(expected).not.toEqual([]);
    expect(held).toEqual(expected);
  });

  interface Reconciled {
    readonly shown: readonly { readonly area: string; readonly kind: string; readonly what: string }[];
  }
  const reconciled = (...args: string[]) => {
    const { status, stdout, stderr } = sendmux('reconcile', '--json', ...args);
    if (stdout === '') throw new Error(stderr);
    return { status, outcome: JSON.parse(stdout) as Reconciled };
  };
  const shown = (id: string, version: string, line: string) => {
    const [time, , type] = line.split(' ');
    return `${id}/${version} ${time} ${type!.replace(':', '')}`;
  };
  function heldByPython(): string[] {
    const { stdout } = spawnSync(
      'python3',
      [
        '-c',
        'import sqlite3\nfor row in sqlite3.connect("domains.db").execute("SELECT domain, version, line FROM lives"): print(*row, sep="\\t")',
      ],
      { cwd: join(folder, 'Python'), encoding: 'utf8' },
    );
    return stdout
      .trim()
      .split('\n')
      .map((row) => shown(...(row.split('\t') as [string, string, string])))
      .sort();
  }
  function heldByTypeScript(): string[] {
    const rows = readFileSync(join(folder, 'TypeScript', 'lives.tsv'), 'utf8')
      .trim()
      .split('\n')
      .map((row) => row.split('\t'));
    const epochs = rows
      .filter(({ length }) => length === 2)
      .map(([number, after]) => ({ log: '', number: Number(number), after: Number(after) }));
    const known = new Epochs([{ log: '', number: 1, after: 0 }, ...epochs]);
    return rows
      .filter(({ length }) => length > 2)
      .filter(
        ([epoch, sequence]) =>
          !known.isVoid({
            position: Number(sequence),
            ...(epoch !== '1' && { epoch: { log: '', number: Number(epoch), after: 0 } }),
          }),
      )
      .map(([, , id, version, , line]) => shown(id!, version!, line!))
      .sort();
  }

  it('proves to an auditor that the seals which are gone were replaced by a restore', () => {
    const witness = ['--witness', join(folder, 'witness.ndjson')];
    const verified = sendmux('audit', 'verify', ...witness);
    expect(verified).toMatchObject({ status: 0, stderr: expect.any(String) as string });
    expect(verified.stdout).toMatch(/Restored at .* to a moment after seal \d+, by a signed statement/);
    expect(verified.stdout).toMatch(/[1-9]\d* seals? of the witness replaced by that/);
    expect(verified.stdout).toContain('Nothing is wrong.');
  });

  it('gives no message of a webhook the id of another one', () => {
    const bodies = new Map<string, Set<string>>();
    for (const { headers, body } of endpoint.arrivals) {
      const id = String(headers['webhook-id']);
      bodies.set(id, (bodies.get(id) ?? new Set()).add(body));
    }
    expect(bodies.size).toBeGreaterThan(5);
    expect([...bodies.values()].filter(({ size }) => size > 1)).toEqual([]);
  });

  it('says what SES, the mail server and Kafka have beside the log, and has it repaired', async () => {
    const first = reconciled();
    expect(first.status).toBe(1);
    const shown = first.outcome.shown.map(({ area, kind, what }) => `${area} ${kind} ${what}`);
    expect(shown).toEqual(
      expect.arrayContaining([
        'ses missing goes.acme.com',
        'ses lost lost.acme.com',
        'mail-server missing goes.acme.com',
        'mail-server lost lost.acme.com',
        expect.stringMatching(/^mail-server lost mbx_/),
        'mail-server different held.acme.com',
      ]),
    );
    // Asked for: what the log has is made again, and what it has lost stays.
    expect(reconciled('--repair').status).toBe(1);
    let left: unknown[];
    for (const until = Date.now() + 60_000; ; await delay(500)) {
      left = reconciled('ses', 'mail-server').outcome.shown.filter(({ kind }) => kind !== 'lost' && kind !== 'foreign');
      if (left.length === 0 || Date.now() > until) break;
    }
    expect(left).toEqual([]);
    expect((await system.sandbox.identities()).map(({ name }) => name)).toEqual(
      expect.arrayContaining(['goes.acme.com', 'lost.acme.com']),
    );
    // The domain that was lost is added again, and takes the place of what was left of it.
    const lost = idOf('lost');
    const { id } = (await add('lost')).data;
    const mine = (await system.sandbox.identities()).find(({ name }) => name === 'lost.acme.com');
    expect(mine?.tags).toEqual([{ Key: 'sendmux:domain-id', Value: id }]);
    expect(id).not.toBe(lost);
    expect(reconciled('--delete-lost', 'ses', 'mail-server').status).toBe(0);
  });

  it('makes the tables of the mail server anew from the log', async () => {
    const pool = openPool(system.mailServerDatabaseUrl, 1);
    const tables = ['mail_domains', 'mail_mailboxes', 'mail_domain_choices', 'mail_providers', 'mail_labels'];
    const contents = async () =>
      Promise.all(
        tables.map(async (name) => {
          // Versions of choices are those of the last event that led to them, or of the last one.
          const { rows } = await pool.query<Record<string, unknown>>(
            `SELECT to_jsonb(t) - 'version' AS row FROM ${name} t WHERE to_jsonb(t)->>'status' IS DISTINCT FROM 'deleted'
             ORDER BY 1`,
          );
          return { name, rows };
        }),
      );
    try {
      await api.call('POST', '/mailboxes', { address: 'grace@stays.acme.com' });
      await system.until('nothing differs', () => reconciled('mail-server').status === 0);
      reconciled('mail-server', '--repair');
      const before = await contents();
      await pool.query(`DELETE FROM mail_domains WHERE domain_id <> 'shared'`);
      await pool.query(`TRUNCATE ${tables.slice(1).join(', ')}`);
      expect(reconciled('mail-server', '--repair').status).toBe(0);
      await system.until('all rows are there again', async () => {
        const [now] = await Promise.all([contents()]);
        return JSON.stringify(now) === JSON.stringify(before) || reconciled('mail-server').status === 0;
      });
      const without = (all: Awaited<ReturnType<typeof contents>>) =>
        all.filter(({ name }) => name !== 'mail_domain_choices');
      expect(without(await contents())).toEqual(without(before));
    } finally {
      await pool.end();
    }
  });

  it('has a read model, quotas and hashes that are those of its events', async () => {
    const { replayed, live } = await replayedAndLive(system.databaseUrl);
    expect(live).toEqual(replayed);
    const { counted, held } = await countedAndHeld(system.databaseUrl);
    expect(counted).toEqual(held);
  });
});
