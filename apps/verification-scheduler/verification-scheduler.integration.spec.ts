import { RequestDeletion, schemaVersions } from '@app/mail-domain';
import { consumeEvents } from '@app/messaging';
import { createApp } from '@app/process';
import { loadSettings } from '@app/runtime';
import { Verifier } from '@app/verification';
import { schedulerFixture, until } from '../../test/support/scheduler';
import { VerificationSchedulerModule } from './verification-scheduler.module';

const fixture = schedulerFixture();
const { add, context, events, known, looks, nextCycle, rowsOfTable, settled, start, status, verify, zone } = fixture;

describe('the life of a domain in the cycle', () => {
  it('H1 H3 H4 goes from pending to verified, lapsed and failed, and then gets no more looks', async () => {
    const { id, name } = await add('right');
    start();
    await settled();
    expect(await status(id)).toBe('verified');
    zone.set(name, 'broken');
    await nextCycle();
    expect((await fixture.handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
    await nextCycle();
    expect(await status(id)).toBe('failed');
    const before = looks.length;
    await nextCycle();
    expect(looks).toHaveLength(before);
    expect(await events(id)).toEqual([
      'DnsChecked',
      'DomainVerified',
      'DnsChecked',
      'VerificationLapsed',
      'DnsChecked',
      'VerificationFailed',
    ]);
  });

  it('H2 stays pending without a notice when the domain was never verified', async () => {
    const { id } = await add('broken');
    start();
    await settled();
    for (let cycle = 0; cycle < 5; cycle++) await nextCycle();
    expect(looks).toHaveLength(6);
    expect(await events(id)).toEqual(['DnsChecked']);
    expect(await status(id)).toBe('pending');
  });

  it('H5 loses its strike when the domain recovers', async () => {
    const { id, name } = await add('right');
    start();
    await settled();
    for (const state of ['broken', 'right', 'broken', 'right'] as const) {
      zone.set(name, state);
      await nextCycle();
    }
    expect(await status(id)).toBe('verified');
    expect(await events(id)).not.toContain('VerificationFailed');
  });

  it('H10 does not change while the checks are undecided', async () => {
    const { id, name } = await add('right');
    start();
    await settled();
    zone.set(name, 'silent');
    await nextCycle();
    zone.set(name, 'broken');
    await nextCycle();
    zone.set(name, 'silent');
    await nextCycle();
    expect((await fixture.handler.load(id)).state).toMatchObject({ status: 'pending', strikes: 1 });
  });

  it('continues when a failed domain was repaired and verified', async () => {
    const { id, name } = await add('right');
    start();
    await settled();
    zone.set(name, 'broken');
    await nextCycle();
    await nextCycle();
    await known(id);
    zone.set(name, 'right');
    await verify(id, name);
    await known(id);
    const before = looks.length;
    await nextCycle();
    expect(looks).toHaveLength(before + 1);
    expect(await status(id)).toBe('verified');
  });

  it('ends when the domain is being deleted', async () => {
    const { id } = await add('right');
    await fixture.door.execute(new RequestDeletion(id, context()));
    await until(async () => (await fixture.watchedDomains.version(id)) === 0);
    start();
    await settled();
    expect(looks).toEqual([]);
  });
});

it('does not change when events are read again, or old ones late', async () => {
  const first = await add('right');
  const second = await add('broken');
  start();
  await settled();
  zone.set(first.name, 'broken');
  await nextCycle();
  await fixture.door.execute(new RequestDeletion(second.id, context()));
  await known(first.id);
  await until(async () => (await fixture.watchedDomains.version(second.id)) === 0);
  const before = await rowsOfTable();
  await fixture.reader.close();
  await fixture.pool.query(`UPDATE checkpoints SET position = 0 WHERE name = 'verification-scheduler'`);
  await fixture.pool.query(`DELETE FROM watched_domains`);
  fixture.reader = await fixture.startReader();
  const head = await fixture.log.head();
  await until(async () => {
    const { rows } = await fixture.pool.query<{ position: string }>('SELECT position FROM checkpoints');
    return Number(rows[0]!.position) >= head;
  });
  const after = (await rowsOfTable()) as { id: string }[];
  expect(after.filter(({ id }) => id === first.id || id === second.id)).toEqual(before);
});

it('runs as an app that is live and ready, follows the events and shows its metrics', async () => {
  await fixture.reader.close();
  const env = {
    DATABASE_URL: fixture.database.url,
    MAIL_SERVER_DATABASE_URL: fixture.database.url,
    SMTP_URL: 'smtp://127.0.0.1:1',
  };
  const settings = loadSettings({ ...env, DOH_RESOLVERS: 'http://127.0.0.1:1/dns-query', LOG_LEVEL: 'silent' });
  const app = await createApp({
    host: '127.0.0.1',
    port: 0,
    module: VerificationSchedulerModule.forRoot(settings),
    configure: (created) => consumeEvents(created, 'verification-scheduler', schemaVersions, settings),
  });
  try {
    await app.init();
    const { id } = await add('right');
    expect(await fixture.watchedDomains.version(id)).toBe(2);
    for (const path of ['/health/live', '/health/ready']) expect((await app.inject(path)).statusCode).toBe(200);
    expect((await app.inject('/metrics')).body).toContain('sendmux_verification_slot_lag_seconds{app=');
  } finally {
    await app.close();
    fixture.reader = await fixture.startReader();
  }
});

it.each([
  ['true', ['mail_from_mx', 'mail_from_spf']],
  ['false', []],
])('lets MAIL FROM decide as MAIL_FROM_REQUIRED=%s says', async (required, deciding) => {
  const settings = loadSettings({
    DATABASE_URL: fixture.database.url,
    MAIL_SERVER_DATABASE_URL: fixture.database.url,
    SMTP_URL: 'smtp://127.0.0.1:1',
    DOH_RESOLVERS: 'http://127.0.0.1:1/dns-query',
    LOG_LEVEL: 'silent',
    MAIL_FROM_REQUIRED: required,
  });
  const app = await createApp({ host: '127.0.0.1', port: 0, module: VerificationSchedulerModule.forRoot(settings) });
  const domain = { name: 'mail.acme.com', team: 'team_abc123', dkimTokens: [], dkimZone: '', sesRegion: 'eu-west-1' };
  const { findings } = await app.get(Verifier, { strict: false }).check(domain, 'success');
  await app.close();
  const decide = findings.filter(({ decides }) => decides !== false).map(({ check }) => check);
  expect(decide.filter((check) => check.startsWith('mail_from_'))).toEqual(deciding);
});
