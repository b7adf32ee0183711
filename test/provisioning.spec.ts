import { lockMailServer, shutMailServer, someoneWaits, statusOf, whoHas } from './support/both-or-neither';
import { startSystem, type ApiClient, type Answer, type System } from './support/processes';

/**
 * Both or neither on real processes: faults of each counterpart, and provisioning killed with SIGKILL before, between and
 * after each step. The enumeration of every single effect is in apps/provisioning/provisioner.spec.ts.
 */
describe('both or neither', () => {
  let system: System;
  let api: ApiClient;
  let count = 0;
  const deadlineMs = 9_000;

  beforeAll(async () => {
    system = await startSystem({ env: { PROVISIONING_DEADLINE: `${deadlineMs}ms`, SES_TIMEOUT: '1s' } });
    ({ api } = await system.team());
  }, 60_000);
  afterAll(() => system.end(), 30_000);
  afterEach(() => system.sandbox.allWell());

  const newName = () => `p${++count}.acme.com`;
  const has = (name: string) => whoHas(system, name);
  const asked = async (operation: string, name: string) =>
    (await system.sandbox.sesCalls()).some((call) => call.operation === operation && call.name === name);
  const rolledBack = (name: string) =>
    system.until(`${name} is rolled back`, async () => (await statusOf(system, name)) === 'rolled_back', 30_000);

  /** Nothing is left, nothing is listed, and the same name can be added again and has both. */
  async function neitherAndFree(name: string): Promise<void> {
    await rolledBack(name);
    expect(await has(name)).toEqual({ mailServer: null, ses: null });
    await system.sandbox.allWell();
    await bothAfter(name, await api.add(name));
  }

  async function bothAfter(name: string, answer: Answer): Promise<void> {
    expect(answer).toMatchObject({ status: 201, body: { data: { domain: name } } });
    const { id } = (answer.body as { data: { id: string } }).data;
    expect(await has(name)).toEqual({ mailServer: id, ses: id });
  }

  describe('a counterpart fails', () => {
    it('SES refuses: 502 that says so, and a rollback', async () => {
      const name = newName();
      await system.sandbox.fault('ses', { mode: 'refuse', operations: ['CreateEmailIdentity'] });
      const answer = await api.add(name);
      expect(answer.status).toBe(502);
      expect(JSON.stringify(answer.body)).toContain('may have no more identities');
      await neitherAndFree(name);
    });

    it.each(['hang', 'garbage', 'error'])(
      'SES plays %s past the deadline: 504, and a rollback',
      async (mode) => {
        const name = newName();
        await system.sandbox.fault('ses', { mode, operations: ['CreateEmailIdentity'] });
        expect((await api.add(name)).status).toBe(504);
        await neitherAndFree(name);
      },
      60_000,
    );

    it('SES acts, and says nothing: what it has done is found, and is ours', async () => {
      const name = newName();
      await system.sandbox.fault('ses', { mode: 'hang_after', operations: ['CreateEmailIdentity'] });
      await bothAfter(name, await api.add(name));
    }, 30_000);

    it('SES acts long after everybody has given up: taken back by the last look', async () => {
      const name = newName();
      const operations = ['CreateEmailIdentity'];
      await system.sandbox.fault('ses', { mode: 'act_late', after_ms: deadlineMs + 3_000, operations });
      const answer = api.add(name);
      await system.until('SES is asked', () => asked('CreateEmailIdentity', name));
      await system.sandbox.fault('ses', { mode: 'hang', operations });
      expect((await answer).status).toBe(504);
      await rolledBack(name);
      expect(await has(name)).toEqual({ mailServer: null, ses: null });
      await system.until('SES has it after all', async () => (await has(name)).ses, 15_000);
      await system.until('it is taken back', async () => (await has(name)).ses === null, 15_000);
      await neitherAndFree(name);
    }, 60_000);

    it('SES is throttled: it is waited for', async () => {
      const name = newName();
      await system.sandbox.fault('ses', { mode: 'throttle', times: 3 });
      await bothAfter(name, await api.add(name));
    }, 30_000);

    it('the database of the mail server is down: 504, a rollback as soon as it is up', async () => {
      const name = newName();
      await shutMailServer(system, true);
      expect((await api.add(name)).status).toBe(504);
      expect(await statusOf(system, name)).toBe('rolling_back');
      expect(await api.add(name)).toMatchObject({ status: 409, body: { error: { retryable: true } } });
      await shutMailServer(system, false);
      await neitherAndFree(name);
    }, 60_000);

    it('SES has the name for somebody else: refused, and left as it is', async () => {
      const name = newName();
      await system.sandbox.plantIdentity(name);
      expect((await api.add(name)).status).toBe(502);
      await rolledBack(name);
      expect(await has(name)).toEqual({ mailServer: null, ses: 'foreign' });
    });

    it('SES fails while a domain is deleted: 503, and gone once it is up', async () => {
      const name = newName();
      const added = await api.add(name);
      const { id } = (added.body as { data: { id: string } }).data;
      await system.sandbox.fault('ses', { mode: 'error', operations: ['DeleteEmailIdentity', 'GetEmailIdentity'] });
      const first = await api.delete(id);
      expect(first.status).toBe(503);
      expect(first.headers.get('retry-after')).toMatch(/^\d+$/);
      expect((await api.get(id)).body).toMatchObject({ data: { verification_status: 'deleting' } });
      await system.sandbox.allWell();
      expect((await api.delete(id)).status).toBe(200);
      expect(await has(name)).toEqual({ mailServer: null, ses: null });
      expect((await api.get(id)).status).toBe(404);
    }, 60_000);
  });

  describe('provisioning is killed', () => {
    /** Where the work stands still, so that the process can be killed right there. */
    const adding: [string, (name: string) => Promise<() => Promise<unknown>>][] = [
      [
        'before the mail server has it',
        async () => {
          const unlock = await lockMailServer(system);
          return () => unlock();
        },
      ],
      [
        'between the mail server and SES',
        async () => {
          await system.sandbox.fault('ses', { mode: 'hang', operations: ['CreateEmailIdentity'] });
          return () => system.sandbox.allWell();
        },
      ],
      [
        'after SES has it, before that is recorded',
        async () => {
          await system.sandbox.fault('ses', { mode: 'hang_after', operations: ['CreateEmailIdentity'] });
          return () => system.sandbox.allWell();
        },
      ],
    ];
    const standsStill = (name: string, lock: boolean, operation: string) =>
      system.until('the work stands still', () => (lock ? someoneWaits(system) : asked(operation, name)));

    it.each(adding)(
      '%s, and comes back in time: both',
      async (where, stop) => {
        const name = newName();
        const goOn = await stop(name);
        const answer = api.add(name);
        await standsStill(name, where.includes('before the mail'), 'CreateEmailIdentity');
        await system.kill('provisioning');
        await goOn();
        await system.start('provisioning');
        await bothAfter(name, await answer);
      },
      60_000,
    );

    it.each(adding)(
      '%s, and comes back too late: neither',
      async (where, stop) => {
        const name = newName();
        const goOn = await stop(name);
        const answer = api.add(name);
        await standsStill(name, where.includes('before the mail'), 'CreateEmailIdentity');
        await system.kill('provisioning');
        await goOn();
        expect((await answer).status).toBe(504);
        await system.start('provisioning');
        await neitherAndFree(name);
      },
      60_000,
    );

    it('before it has heard of the domain at all: neither', async () => {
      const name = newName();
      await system.kill('provisioning');
      expect((await api.add(name)).status).toBe(504);
      await system.start('provisioning');
      await neitherAndFree(name);
    }, 60_000);

    it.each(['GetEmailIdentity hang', 'DeleteEmailIdentity hang', 'DeleteEmailIdentity hang_after'])(
      'in a rollback, at %s: neither',
      async (at) => {
        const [operation, mode] = at.split(' ') as [string, string];
        const name = newName();
        // SES makes the identity, says nothing of it, and fails from then on until the deadline has passed.
        await system.sandbox.fault('ses', { mode: 'hang_after', operations: ['CreateEmailIdentity'] });
        const answer = api.add(name);
        await system.until('SES has it', async () => (await has(name)).ses);
        await system.sandbox.fault('ses', { mode: 'error' });
        expect((await answer).status).toBe(504);
        await system.kill('provisioning');
        await system.sandbox.fault('ses', { mode, operations: [operation] });
        await system.start('provisioning');
        await system.until('the rollback stands still', async () => {
          const calls = await system.sandbox.sesCalls();
          return calls.at(-1)?.operation === operation && calls.at(-1)?.name === name;
        });
        await system.kill('provisioning');
        await system.sandbox.allWell();
        await system.start('provisioning');
        await neitherAndFree(name);
      },
      90_000,
    );

    it.each(['GetEmailIdentity hang', 'DeleteEmailIdentity hang', 'DeleteEmailIdentity hang_after'])(
      'in a deletion, at %s: gone',
      async (at) => {
        const [operation, mode] = at.split(' ') as [string, string];
        const name = newName();
        const { id } = ((await api.add(name)).body as { data: { id: string } }).data;
        await system.sandbox.fault('ses', { mode, operations: [operation] });
        const answer = api.delete(id);
        await standsStill(name, false, operation);
        await system.kill('provisioning');
        await system.sandbox.allWell();
        await system.start('provisioning');
        expect([200, 503]).toContain((await answer).status);
        await system.until('it is gone', async () => (await statusOf(system, name)) === 'deleted');
        expect(await has(name)).toEqual({ mailServer: null, ses: null });
        expect((await api.add(name)).status).toBe(201);
      },
      60_000,
    );
  });
});
