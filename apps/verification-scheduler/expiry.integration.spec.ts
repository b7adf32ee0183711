import { RequestDeletion, type AnnounceExpiry } from '@app/mail-domain';
import { DomainsReadModel } from '@app/read-model';
import { schedulerFixture } from '../../test/support/scheduler';
import { Expiry } from './expiry';

const fixture = schedulerFixture();
const { add, clock, context, events, status, verify, zone } = fixture;
type Added = Awaited<ReturnType<typeof add>>;
const day = 86_400_000;

function expiry(ageMs = 30 * day): Expiry {
  return new Expiry(new DomainsReadModel(fixture.pool), fixture.door, { ageMs, clock: () => clock.now });
}
const expiresAt = async (id: string) => {
  const { state } = await fixture.handler.load(id);
  return 'expiresAt' in state ? state.expiresAt : undefined;
};
it('is announced a week before, and comes then, by whichever scheduler, once', async () => {
  const { id } = await add('broken');
  const added = clock.now;
  const two = [expiry(), expiry()];
  const pass = async (days: number) => {
    clock.now = added + days * day;
    await Promise.all(two.map((one) => one.pass()));
  };
  await pass(22.9);
  expect(await expiresAt(id)).toBeUndefined();
  await pass(23);
  expect(await expiresAt(id)).toBe(new Date(added + 30 * day).toISOString());
  await pass(29.9);
  expect(await status(id)).toBe('pending');
  await pass(30);
  expect(await status(id)).toBe('deleting');
  await pass(31);
  expect(await events(id)).toEqual(['ExpiryAnnounced', 'DomainExpired']);
});

it('leaves a week to one that is old already, and is at half of a shorter time', async () => {
  const { id } = await add('broken');
  const added = clock.now;
  clock.now += 300 * day;
  await expiry().pass();
  expect(await expiresAt(id)).toBe(new Date(added + 307 * day).toISOString());
  const other = await add('broken');
  clock.now += 2 * day;
  await expiry(4 * day).pass();
  expect(await expiresAt(other.id)).toBe(new Date(clock.now + 2 * day).toISOString());
});

it('is of none that is verified, lapsed or deleted meanwhile', async () => {
  const domains = await Promise.all(Array.from({ length: 4 }, () => add('broken')));
  const [verified, lapsed, deleted, verifiedLate] = domains as [Added, Added, Added, Added];
  const look = async ({ id, name }: Added, state: 'right' | 'broken') => {
    zone.set(name, state);
    await verify(id, name);
  };
  await look(verified, 'right');
  await look(lapsed, 'right');
  await look(lapsed, 'broken');
  clock.now += 23 * day;
  await expiry().pass();
  await fixture.door.execute(new RequestDeletion(deleted.id, context()));
  await look(verifiedLate, 'right');
  clock.now += 8 * day;
  await expiry().pass();
  expect(await Promise.all(domains.map(({ id }) => status(id)))).toEqual([
    'verified',
    'pending',
    'deleting',
    'verified',
  ]);
  for (const { id } of [verified, lapsed]) expect(await events(id)).not.toContain('ExpiryAnnounced');
  for (const { id } of domains) expect(await events(id)).not.toContain('DomainExpired');
});

it('goes through all pages, and leaves one whose command fails to the next pass', async () => {
  const ids = await Promise.all(Array.from({ length: 3 }, async () => (await add('broken')).id));
  clock.now += 25 * day;
  let failing = true;
  const execute = (command: AnnounceExpiry) => {
    if (failing && command.domainId === ids[0]) throw new Error('no database');
    return fixture.door.execute(command);
  };
  const failingOnce = new Expiry(new DomainsReadModel(fixture.pool), { execute } as never, {
    ageMs: 30 * day,
    clock: () => clock.now,
  });
  await failingOnce.pass();
  expect(await Promise.all(ids.map(expiresAt))).toEqual([undefined, expect.any(String), expect.any(String)]);
  failing = false;
  await failingOnce.pass();
  expect(await expiresAt(ids[0]!)).toEqual(expect.any(String));
});

it('is off at 0', async () => {
  const { id } = await add('broken');
  clock.now += 10_000 * day;
  const off = expiry(0);
  off.onApplicationBootstrap();
  await off.beforeApplicationShutdown();
  expect(await expiresAt(id)).toBeUndefined();
});
