import { Logger } from '@nestjs/common';
import { CompleteIdentityRepair, EnableReceiving } from '@app/mail-domain';
import type { DkimAnswer } from '@app/mail-records';
import { register } from 'prom-client';
import { idInSlot, schedulerFixture, until } from '../../test/support/scheduler';

const fixture = schedulerFixture();
const { add, commands, context, events, known, looks, nextCycle, rowsOfTable, settled, start, status, zone } = fixture;

it('sends no command for a healthy domain that looks as before', async () => {
  const { id } = await add('right');
  start();
  await settled();
  expect(commands).toHaveLength(1);
  for (let cycle = 0; cycle < 3; cycle++) await nextCycle();
  expect(looks).toHaveLength(4);
  expect(commands).toHaveLength(1);
  expect(await events(id)).toEqual(['DnsChecked', 'DomainVerified']);
});

it('sends one command for a fingerprint of another release, and not one in every cycle', async () => {
  const { id } = await add('right');
  start();
  await settled();
  await known(id);
  const before = await rowsOfTable();
  await fixture.pool.query(`UPDATE watched_domains SET look = 'in another form'`);
  commands.length = 0;
  for (let cycle = 0; cycle < 3; cycle++) await nextCycle();
  expect(commands).toHaveLength(1);
  expect(await rowsOfTable()).toEqual(before);
  expect(await events(id)).toEqual(['DnsChecked', 'DomainVerified']);
});

it('knows the mode of a domain, and that it is upgraded, by its events and by its own commands', async () => {
  const { id, name } = await add('right', idInSlot(0), { mode: 'send_only' });
  const mode = async () => (await fixture.watchedDomains.page(0, '', 10)).find((domain) => domain.id === id)?.mode;
  expect(await mode()).toBe('send_only');
  await fixture.verify(id, name);
  await known(id);
  expect(await mode()).toBe('send_only');
  await fixture.door.execute(new EnableReceiving(id, context()));
  await known(id);
  expect(await mode()).toBe('send_receive');
  await fixture.pool.query(`UPDATE watched_domains SET mode = 'send_only', version = 1 WHERE id = $1`, [id]);
  const { state, version } = await fixture.handler.load(id);
  await fixture.watchedDomains.refresh(id, state, version);
  expect(await mode()).toBe('send_receive');
});

it('writes no row for healthy domains but those of the slots', async () => {
  for (let i = 0; i < 30; i++) await add('right', idInSlot(i % 3));
  start({ perSecond: 1_000 });
  await settled();
  // Reads `xmin` and `ctid` of each row: both change when a row is written again, even with the same values.
  const rows = async () =>
    Promise.all(
      ['watched_domains', 'domains', 'events'].map(
        async (table) =>
          (await fixture.pool.query<object>(`SELECT xmin::text, ctid::text FROM ${table} ORDER BY ctid`)).rows,
      ),
    );
  for (const { id } of await fixture.watchedDomains.page(0, '', 500)) await known(id);
  const before = await rows();
  expect(before[0]).toHaveLength(30);
  looks.length = 0;
  await nextCycle();
  expect(looks).toHaveLength(30);
  expect(await rows()).toEqual(before);
});

it('G2 warns an operator of an ownership that only one resolver keeps seeing, and verifies nothing', async () => {
  const warnings = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
  const told = () => warnings.mock.calls.filter(([text]) => String(text).includes('who owns'));
  const disagreements = async () =>
    (await register.getSingleMetric('sendmux_verification_disagreements_total')!.get()).values[0]!.value;
  const before = await disagreements();
  const { id, name } = await add('broken', idInSlot(0));
  await add('right', idInSlot(0));
  zone.set(name, 'disputed');
  start();
  await settled();
  await known(id);
  // The record may still be propagating, so there is no alarm yet.
  expect(told()).toEqual([]);
  await nextCycle();
  await nextCycle();
  expect(told()).toHaveLength(2);
  expect(told()[0]![0]).toContain(`${name} (${id})`);
  expect(await disagreements()).toBe(before + 3);
  expect(await status(id)).toBe('pending');
  warnings.mockRestore();
});

describe('F9 a domain that SES has lost', () => {
  const repairs = () => commands.filter(({ type }) => type === 'RequestIdentityRepair');

  it('gets one request for a repair until it is done, and keeps its status', async () => {
    const { id, name } = await add('right', idInSlot(0));
    const { id: other } = await add('right', idInSlot(0));
    const first = start();
    await settled();
    const dkim = new Map<string, DkimAnswer>([[name, 'identity_missing']]);
    await first.beforeApplicationShutdown();
    start({ dkim });
    zone.set(name, 'silent');
    await nextCycle();
    await nextCycle();
    expect(repairs().map(({ domainId, data }) => ({ domainId, data }))).toEqual(
      [1, 2].map(() => ({ domainId: id, data: { fault: 'missing' } })),
    );
    expect((await events(id)).filter((type) => type.startsWith('Identity'))).toEqual(['IdentityRepairRequested']);
    expect([await status(id), await status(other)]).toEqual(['verified', 'verified']);

    const identity = { dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1', sesDkimStatus: 'pending' as const };
    await fixture.door.execute(new CompleteIdentityRepair(id, { ...identity, dkimTokens: ['d', 'e', 'f'] }, context()));
    await known(id);
    expect((await fixture.watchedDomains.page(0, '', 10)).find((domain) => domain.id === id)!.dkimTokens).toEqual([
      'd',
      'e',
      'f',
    ]);
  });

  it('stops the slot when many are lost at once, which is another account or a fault of ours', async () => {
    const errors = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    const dkim = new Map<string, DkimAnswer>();
    for (let i = 0; i < 12; i++) dkim.set((await add('right', idInSlot(0))).name, 'identity_missing');
    const scheduler = start({ dkim, retryMs: 20 });
    await until(() => errors.mock.calls.length > 0);
    expect(errors.mock.calls[0]![0]).toMatch(/not in SES as they should be/);
    expect(repairs()).toEqual([]);
    expect(await scheduler.lagMs()).toBeGreaterThan(0);
    errors.mockRestore();
  });
});
