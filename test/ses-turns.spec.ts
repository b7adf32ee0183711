import { sample } from './support/sample';
import { startSystem, type ApiClient, type System } from './support/processes';

const rate = 5;
const domainsAWave = 6;
const waves = sample(1, 20);

describe('all processes of a system', () => {
  let system: System;
  let api: ApiClient;

  beforeAll(async () => {
    system = await startSystem({
      env: { SES_CALLS_PER_SECOND: String(rate), VERIFICATION_INTERVAL: '4s', RATE_LIMIT_PER_MINUTE: '100000' },
    });
    await Promise.all([system.another('provisioning'), system.another('verification-scheduler')]);
    ({ api } = await system.team());
  });
  afterAll(() => system.end());

  it(`call SES ${rate} times in any second at most, list it once, and lose nothing when one is killed`, async () => {
    for (let wave = 0; wave < waves; wave++) {
      const names = Array.from({ length: domainsAWave }, (_, i) => `d${wave}-${i}.acme.com`);
      const adds = Promise.all(names.map((name) => api.add(name)));
      if (wave % 5 === 0) {
        await system.until('SES is asked', async () =>
          (await system.sandbox.sesCalls()).some(({ operation }) => operation === 'CreateEmailIdentity'),
        );
        await system.kill('provisioning');
        await system.start('provisioning');
      }
      const added = await adds;
      expect(added.map(({ status }) => status)).toEqual(names.map(() => 201));
      for (const { body } of added) await system.sandbox.place(body);
      const ids = added.map(({ body }) => (body as { data: { id: string } }).data.id);
      const verified = await Promise.all(ids.map((id) => api.verify(id)));
      expect(verified.map(({ body }) => (body as { data?: { status: string } }).data?.status)).toEqual(
        ids.map(() => 'verified'),
      );
      const deleted = await Promise.all(ids.map((id) => api.delete(id)));
      expect(deleted.map(({ status }) => status)).toEqual(ids.map(() => 200));
    }
    const calls = (await system.sandbox.sesCalls()).map(({ operation, at }) => ({ operation, at: Date.parse(at) }));
    const within = calls.map(({ at }, i) => calls.slice(i).filter((other) => other.at < at + 1_000).length);
    console.info(`${calls.length} calls, ${Math.max(...within)} in a second at most`);
    expect(calls.length).toBeGreaterThan(waves * domainsAWave * 4);
    expect(Math.max(...within)).toBeLessThanOrEqual(rate);
    // Listings follow each other after a second at least, whoever makes them.
    const lists = calls.filter(({ operation }) => operation === 'ListEmailIdentities');
    expect(lists.length).toBeGreaterThan(1);
    expect(lists.slice(1).filter(({ at }, i) => at - lists[i]!.at < 900)).toEqual([]);
  });
});
