import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openClient } from '@app/database';
import { Logger } from '@nestjs/common';
import { busyOf, rest, run } from './proof/cases';
import { World } from './proof/world';
import { invariants, violated, type Observed } from './support/invariants';
import { testDatabase, type TestDatabase } from './support/test-database';
import type { ReceivedMessage } from './support/webhook-checker';

let world: World;
let sound: Observed;
let runsAtRest: boolean;

/** A life in which nothing breaks: one domain that has failed, one that a claim has won, and one that is deleted. */
beforeAll(async () => {
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'sandbox', AWS_SECRET_ACCESS_KEY: 'sandbox' });
  Logger.overrideLogger(false);
  world = await World.start();
  for (const scenario of ['fail-and-tell', 'claim', 'delete'] as const)
    expect([scenario, (await run(world, scenario)).violations]).toEqual([scenario, []]);
  runsAtRest = await restsAfterADeath();
  const { rows } = await world.pool.query<{ domain: string }>(
    `SELECT stream AS domain FROM events WHERE type = 'VerificationFailed'`,
  );
  sound = {
    databaseUrl: world.database.url,
    mailServerUrl: world.mailServer.url,
    identities: structuredClone(world.identities()),
    mails: structuredClone(world.mails()),
    received: new Map([...world.endpoints.received].map(([id, messages]) => [id, [...messages]])),
    acknowledged: [{ domain: rows[0]!.domain, type: 'VerificationFailed' }],
    repeats: 0,
  };
  await world.stop();
});
afterAll(() => world?.drop());

/** Kills an app at the moment at which nothing is left to be done. Gives whether it runs once the world is at rest. */
async function restsAfterADeath(): Promise<boolean> {
  let isKilled = false;
  await rest(world, async () => {
    const busy = await busyOf(world.pool);
    if (!isKilled) world.killApp('provisioning');
    isKilled = true;
    return busy;
  });
  return Promise.race([world.allRun().then(() => true), new Promise<false>((no) => setImmediate(no, false))]);
}

/** Gives the names of the invariants that are violated after something was broken in copies of the databases. */
async function after(broken: {
  readonly database?: string;
  readonly mailServer?: string;
  readonly seen?: (observed: Observed) => Partial<Observed>;
}): Promise<string[]> {
  const copyOf = async (url: string, sql: string | undefined): Promise<TestDatabase> => {
    if (!sql) return { url, drop: () => Promise.resolve() };
    const copy = await testDatabase(new URL(url).pathname.slice(1));
    const client = await openClient({ connectionString: copy.url });
    // The log refuses changes, by triggers.
    await client.query(`SET session_replication_role = replica; ${sql}`);
    await client.end();
    return copy;
  };
  const database = await copyOf(sound.databaseUrl, broken.database);
  const mailServer = await copyOf(sound.mailServerUrl, broken.mailServer);
  const observed = { ...sound, databaseUrl: database.url, mailServerUrl: mailServer.url };
  try {
    const found = await violated({ ...observed, ...broken.seen?.(observed) });
    return [...new Set(found.map((each) => each.slice(0, each.indexOf(':'))))].sort();
  } finally {
    await database.drop();
    await mailServer.drop();
  }
}

const oneEvent = `(SELECT position FROM events WHERE type = 'VerificationLapsed' LIMIT 1)`;
const liveRow = `(SELECT domain FROM mail_domains WHERE domain_id <> 'shared' ORDER BY domain LIMIT 1)`;

it('is looked at when a process that died at the last moment runs again', () => expect(runsAtRest).toBe(true));

it('all hold where nothing is broken', async () => expect(await after({})).toEqual([]));

describe('each is seen to be violated', () => {
  it('log-as-recorded: an event is changed', async () =>
    expect(
      await after({
        database: `UPDATE events SET data = '{"failing":["mx"],"trigger":"requested"}' WHERE position = ${oneEvent}`,
      }),
    ).toContain('log-as-recorded'));

  it('versions-without-gaps: an event is gone', async () =>
    expect(await after({ database: `DELETE FROM events WHERE position = ${oneEvent}` })).toEqual(
      expect.arrayContaining(['versions-without-gaps', 'log-as-recorded']),
    ));

  it('read-models-equal-the-log: a row says otherwise', async () =>
    expect(await after({ database: `UPDATE domains SET status = 'verified' WHERE status = 'failed'` })).toEqual([
      'read-models-equal-the-log',
    ]));

  it('quotas-count-what-is-held: a place is counted twice', async () =>
    expect(
      await after({ database: `UPDATE team_quotas SET used = used + 1 WHERE kind = 'domains' AND used > 0` }),
    ).toEqual(['quotas-count-what-is-held']));

  it('acknowledged-is-recorded: a client was told what is not in the log', async () =>
    expect(
      await after({ seen: ({ acknowledged: [one] }) => ({ acknowledged: [{ ...one!, type: 'DomainDeleted' }] }) }),
    ).toEqual(['acknowledged-is-recorded']));

  it('nothing-half-done: a deletion that never ended', async () =>
    expect(await after({ database: `DELETE FROM events WHERE type = 'DomainDeleted'` })).toContain(
      'nothing-half-done',
    ));

  it('one-holder-of-a-name: the domain that lost its name lives on', async () =>
    expect(
      await after({
        database: `DELETE FROM events WHERE stream IN (SELECT stream FROM events WHERE type = 'DomainReleased')
          AND type IN ('DomainReleased', 'DomainDeleted')`,
      }),
    ).toContain('one-holder-of-a-name'));

  it('released-is-replaced: the winner was added by itself', async () =>
    expect(
      await after({
        database: `UPDATE events SET data = (data::jsonb - 'replaces')::json WHERE data ->> 'replaces' IS NOT NULL`,
      }),
    ).toContain('released-is-replaced'));

  it('mail-server-equals-the-log: a row is gone', async () =>
    expect(await after({ mailServer: `DELETE FROM mail_domains WHERE domain = ${liveRow}` })).toEqual([
      'both-or-neither',
      'mail-server-equals-the-log',
    ]));

  it('mail-server-equals-the-log: a row is that of another domain', async () =>
    expect(
      await after({ mailServer: `UPDATE mail_domains SET domain_id = 'mdom_other' WHERE domain = ${liveRow}` }),
    ).toEqual(['mail-server-equals-the-log']));

  it('ses-equals-the-log: an identity too many', async () =>
    expect(
      await after({
        seen: ({ identities: [one, ...others] }) => ({
          identities: [one!, { ...one!, name: 'x.example.com' }, ...others],
        }),
      }),
    ).toEqual(['both-or-neither', 'ses-equals-the-log']));

  it('ses-equals-the-log: an identity with other keys', async () =>
    expect(
      await after({
        seen: ({ identities: [one, ...others] }) => ({ identities: [{ ...one!, tokens: ['a', 'b', 'c'] }, ...others] }),
      }),
    ).toEqual(['ses-equals-the-log']));

  it('ses-equals-the-log: an identity in two Regions', async () =>
    expect(
      await after({
        seen: ({ identities: [one, ...others] }) => ({
          identities: [one!, { ...one!, region: 'eu-north-1' }, ...others],
        }),
      }),
    ).toEqual(['ses-equals-the-log']));

  it('both-or-neither: SES alone has lost a domain', async () =>
    expect(await after({ seen: ({ identities: [, ...others] }) => ({ identities: others }) })).toEqual([
      'both-or-neither',
      'ses-equals-the-log',
    ]));

  it('no-task-is-left: a task that nobody does', async () =>
    expect(
      await after({
        database: `INSERT INTO tasks (list, key, kind, payload, due) VALUES ('provisioning', 'x', 'x', '{}', now())`,
      }),
    ).toEqual(['no-task-is-left']));

  it('consumers-have-caught-up: one has stopped before the end', async () =>
    expect(await after({ database: `UPDATE checkpoints SET position = position - 1 WHERE name = 'notifier'` })).toEqual(
      ['consumers-have-caught-up'],
    ));

  it('nothing-is-parked: an event that could not be handled', async () =>
    expect(
      await after({
        database: `INSERT INTO parked_messages (consumer_group, message, type, event, error, attempts)
          SELECT 'notifier', stream || '/' || version, type, data, 'x', 5 FROM events WHERE position = ${oneEvent}`,
      }),
    ).toEqual(['nothing-is-parked']));

  it('no-idempotency-key-is-held: a claim of a process that has died', async () =>
    expect(
      await after({
        database: `UPDATE idempotency_keys SET status = NULL, response = NULL, etag = NULL, claimed_until = now() + interval '1 minute'`,
      }),
    ).toEqual(['no-idempotency-key-is-held']));

  it('owners-are-told-once: nobody was told of a failure', async () =>
    expect(
      await after({ seen: ({ mails }) => ({ mails: mails.filter((one) => !one.subject.includes('no longer')) }) }),
    ).toEqual(['owners-are-told-once']));

  it('owners-are-told-once: nobody was told, as of a failure that is over, and as it was', async () => {
    const nobody = ({ mails }: Observed) => ({ mails: mails.filter((one) => !one.subject.includes('no longer')) });
    const superseded = `UPDATE settled_episodes SET outcome = 'superseded'`;
    expect(await after({ database: superseded, seen: nobody })).toEqual(['owners-are-told-once']);
    // An event that nobody has recorded violates other invariants.
    const verifiedAt = (time: string) => `INSERT INTO events_1 (position, stream, version, type, schema_version, data,
        metadata, time, previous, hash) OVERRIDING SYSTEM VALUE
      SELECT nextval('event_positions'), failed.stream, max(other.version) + 1, 'DomainVerified', 1, '{}',
        failed.metadata::text::json, ${time}, failed.hash, failed.hash
      FROM events failed JOIN events other ON other.stream = failed.stream WHERE failed.type = 'VerificationFailed'
      GROUP BY failed.stream, failed.metadata::text, failed.time, failed.hash`;
    const names = async (database: string) => after({ database, seen: nobody });
    expect(await names(`${superseded}; ${verifiedAt('failed.time')}`)).not.toContain('owners-are-told-once');
    expect(await names(`${superseded}; ${verifiedAt('now()')}`)).toContain('owners-are-told-once');
    expect(await names(verifiedAt('failed.time'))).toContain('owners-are-told-once');
  });

  it('owners-are-told-once: a second mail of the same, and the same mail once more than a crash allows', async () => {
    const first = sound.mails.find(({ subject }) => subject.includes('is no longer verified'));
    expect(await after({ seen: ({ mails }) => ({ mails: [...mails, { ...first!, messageId: '<other>' }] }) })).toEqual([
      'owners-are-told-once',
    ]);
    expect(await after({ seen: ({ mails }) => ({ mails: [...mails, first!] }) })).toEqual(['owners-are-told-once']);
    expect(await after({ seen: ({ mails }) => ({ mails: [...mails, first!], repeats: 1 }) })).toEqual([]);
  });

  it('endpoints-get-each-message: one is lost, altered, or comes too often', async () => {
    type Messages = readonly ReceivedMessage[];
    const withOne = (change: (messages: Messages) => Messages) => ({
      seen: ({ received }: Observed) => ({
        received: new Map([...received].map(([id, messages]) => [id, change(messages)])),
      }),
    });
    const name = ['endpoints-get-each-message'];
    expect(await after(withOne((messages) => messages.slice(1)))).toEqual(name);
    expect(await after(withOne(([first, ...others]) => [{ ...first!, body: '{}' }, ...others]))).toEqual(name);
    expect(await after(withOne((messages) => [...messages, messages[0]!]))).toEqual(name);
  });
});

it('no-transaction-is-open: one is left in the middle', async () => {
  const copy = await testDatabase(new URL(sound.databaseUrl).pathname.slice(1));
  const client = await openClient({ connectionString: copy.url });
  await client.query('BEGIN; SELECT 1');
  await client.query(`SELECT pg_sleep(0)`);
  await new Promise((done) => setTimeout(done, 1_200));
  try {
    const found = await violated({ ...sound, databaseUrl: copy.url });
    expect(found).toEqual([expect.stringMatching(/^no-transaction-is-open: /)]);
  } finally {
    await client.end();
    await copy.drop();
  }
});

it('the document explains each, and no other', () => {
  const text = readFileSync(join(__dirname, '../docs/invariants.md'), 'utf8');
  const named = [...text.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, name]) => name);
  expect(named.sort()).toEqual(Object.keys(invariants).sort());
});
