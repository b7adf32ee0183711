import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { DomainCommandHandler } from '@app/commands';
import { openPool } from '@app/database';
import { EventStore } from '@app/event-store';
import { AddDomain, CompleteProvisioning } from '@app/mail-domain';
import { domainsProjection } from '@app/read-model';
import { newId, portOf } from '@app/runtime';
import { commandsTo } from './support/commands';
import { lockMailServer, query, shutMailServer, someoneWaits, statusOf, whoHas } from './support/both-or-neither';
import { ApiClient, startSystem, type Answer, type System } from './support/processes';

const program = resolve(__dirname, '../bin/sendmux');

/**
 * Tests on real processes that the mail server and SES both have a domain, or neither: with faults of each, and with
 * provisioning killed by SIGKILL before, between and after the steps. apps/provisioning/provisioner.spec.ts covers
 * every single effect.
 */
describe('both or neither', () => {
  let system: System;
  let api: ApiClient;
  /** Asks a gateway whose deadline is short, for the adds that must be too late. */
  let hasty: ApiClient;
  let team: string;
  let count = 0;
  // A process that starts again on a busy machine is back in time.
  const deadlineMs = 20_000;
  const shortMs = 4_000;

  beforeAll(async () => {
    system = await startSystem({
      apps: ['sandbox', 'gateway', 'provisioning'],
      env: { PROVISIONING_DEADLINE: `${deadlineMs}ms`, SES_TIMEOUT: '1s' },
    });
    const port = await system.another('gateway', { PROVISIONING_DEADLINE: `${shortMs}ms` });
    const { id, key, api: patient } = await system.team();
    [api, hasty, team] = [patient, new ApiClient(`http://127.0.0.1:${port}/api/v1`, key), id];
  });
  afterAll(() => system.end());
  afterEach(() => system.sandbox.allWell());

  const newName = () => `p${++count}.acme.com`;
  const has = (name: string) => whoHas(system, name);
  const asked = async (operation: string, name: string) =>
    (await system.sandbox.sesCalls()).some((call) => call.operation === operation && call.name === name);
  /** Runs the command line beside the test, whose connections must not stand still meanwhile. */
  const sendmux = (...args: string[]) =>
    new Promise<{ status: number | null; stdout: string; stderr: string }>((done) => {
      // A process that has just started on a busy machine takes its time for the first call.
      const child = spawn(program, args, { env: { ...system.settings, SES_TIMEOUT: '30s' } });
      const said = { stdout: '', stderr: '' };
      for (const stream of ['stdout', 'stderr'] as const)
        child[stream].setEncoding('utf8').on('data', (text: string) => (said[stream] += text));
      child.once('close', (status) => done(Object.assign({ status }, said)));
    });
  const sesAlarms = async () => {
    const answer = await fetch(`http://127.0.0.1:${portOf('provisioning', system.port)}/metrics`);
    const lines = (await answer.text()).matchAll(/^sendmux_counterpart_alarms_total\{.*ses.*\} (\d+)$/gm);
    return [...lines].reduce((sum, [, count]) => sum + Number(count), 0);
  };
  const rolledBack = (name: string) =>
    system.until(`${name} is rolled back`, async () => (await statusOf(system, name)) === 'rolled_back');

  /** Expects that nothing is left of the domain, that it is not listed, and that the same name can be added again. */
  async function neitherAndFree(name: string): Promise<void> {
    await rolledBack(name);
    expect(await has(name)).toEqual({ mailServer: null, ses: null });
    await system.sandbox.allWell();
    await bothAfter(name, await api.add(name));
  }

  const mailFromOf = async (name: string) =>
    (await system.sandbox.identities()).find((identity) => identity.name === name)?.mailFrom?.domain;
  /** The operations of SES that an add has to carry out. */
  const steps = ['CreateEmailIdentity', 'PutEmailIdentityMailFromAttributes'];

  async function bothAfter(name: string, answer: Answer): Promise<void> {
    expect(answer).toMatchObject({ status: 201, body: { data: { domain: name } } });
    const { id } = (answer.body as { data: { id: string } }).data;
    expect(await has(name)).toEqual({ mailServer: id, ses: id });
    expect(await mailFromOf(name)).toBe(`bounce.${name}`);
  }

  describe('the mail server or SES fails', () => {
    it('SES refuses our account the MAIL FROM domain: 503, and a rollback', async () => {
      const name = newName();
      await system.sandbox.fault('ses', { mode: 'deny', operations: ['PutEmailIdentityMailFromAttributes'] });
      expect((await api.add(name)).status).toBe(503);
      await neitherAndFree(name);
    });

    it('SES refuses: 502 that says so, and a rollback', async () => {
      const name = newName();
      await system.sandbox.fault('ses', { mode: 'refuse', operations: ['CreateEmailIdentity'] });
      const answer = await api.add(name);
      expect(answer.status).toBe(502);
      expect(answer.body).toMatchObject({ error: { retryable: false, errors: [{ code: 'ses_refused' }] } });
      expect(JSON.stringify(answer.body)).toContain('does not accept the name');
      await neitherAndFree(name);
    });

    it.each(['deny', 'full'])(
      'P1: SES refuses our account (%s): 503 to be repeated, an alarm, no word of AWS outside the log, and a rollback',
      async (mode) => {
        const name = newName();
        await system.sandbox.fault('ses', { mode, operations: ['CreateEmailIdentity'] });
        const alarmsBefore = await sesAlarms();
        const answer = await api.add(name);
        expect(answer).toMatchObject({
          status: 503,
          body: { error: { code: 'service_unavailable', retryable: true, errors: [{ code: 'ses_unavailable' }] } },
        });
        expect(answer.headers.get('retry-after')).toBe('60');
        expect(await sesAlarms()).toBeGreaterThan(alarmsBefore);
        await neitherAndFree(name);
        const [row] = await query<{ events: string }>(
          system.databaseUrl,
          `SELECT json_agg(e)::text AS events FROM events e JOIN domains d ON d.id = e.stream WHERE d.name = $1`,
          [name],
        );
        for (const text of [JSON.stringify(answer.body), row!.events])
          expect(text).not.toMatch(/arn:|123456789012|AccessDenied|LimitExceeded|authorized|identities/);
      },
    );

    it('SES hangs, plays up or fails at a step past the deadline: 504, and a rollback', async () => {
      const cases = steps.flatMap((operation) => ['hang', 'garbage', 'error'].map((mode) => ({ operation, mode })));
      const names = cases.map(() => newName());
      for (const [index, { operation, mode }] of cases.entries())
        await system.sandbox.fault('ses', { mode, operations: [operation], name: names[index]! });
      const answers = await Promise.all(names.map((name) => hasty.add(name)));
      const said = cases.map((fault, index) => ({ ...fault, status: answers[index]!.status }));
      expect(said).toEqual(cases.map((fault) => ({ ...fault, status: 504 })));
      for (const name of names) await rolledBack(name);
      for (const name of names) await neitherAndFree(name);
    });

    it.each(steps)(
      'SES acts without an answer at %s: the identity is found by its tag, and used',
      async (operation) => {
        const name = newName();
        await system.sandbox.fault('ses', { mode: 'hang_after', operations: [operation] });
        await bothAfter(name, await api.add(name));
      },
    );

    it('SES acts long after the deadline: the identity is removed by the last look', async () => {
      const name = newName();
      const operations = ['CreateEmailIdentity'];
      await system.sandbox.fault('ses', { mode: 'act_late', after_ms: shortMs + 3_000, operations });
      const answer = hasty.add(name);
      await system.until('SES is asked', () => asked('CreateEmailIdentity', name));
      await system.sandbox.fault('ses', { mode: 'hang', operations });
      expect((await answer).status).toBe(504);
      await rolledBack(name);
      expect(await has(name)).toEqual({ mailServer: null, ses: null });
      await system.until('SES has it after all', async () => (await has(name)).ses);
      await system.until('it is taken back', async () => (await has(name)).ses === null);
      await neitherAndFree(name);
    });

    it('SES throttles: provisioning waits', async () => {
      const name = newName();
      await system.sandbox.fault('ses', { mode: 'throttle', times: 3 });
      await bothAfter(name, await api.add(name));
    });

    it('the database of the mail server is down: 504, a rollback as soon as it is up', async () => {
      const name = newName();
      await shutMailServer(system, true);
      expect((await hasty.add(name)).status).toBe(504);
      expect(await statusOf(system, name)).toBe('rolling_back');
      expect(await api.add(name)).toMatchObject({ status: 409, body: { error: { retryable: true } } });
      await shutMailServer(system, false);
      await neitherAndFree(name);
    });

    it('domains from before get their MAIL FROM domain when an operator asks for it, each once', async () => {
      await system.kill('provisioning');
      const pool = openPool(system.databaseUrl, 1);
      const names = [newName(), newName()];
      try {
        const commands = commandsTo(new DomainCommandHandler(new EventStore(pool, domainsProjection)));
        for (const name of names) {
          const id = newId('mdom');
          const { tokens } = await system.sandbox.plantIdentity(name, id);
          const context = { at: new Date().toISOString(), actor: 'provisioning', correlationId: newId('req') };
          await commands.execute(new AddDomain(id, { name, team, deadline: context.at }, context));
          const keys = { dkimTokens: tokens, dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1' };
          await commands.execute(new CompleteProvisioning(id, { ...keys, sesDkimStatus: 'pending' }, context));
        }
      } finally {
        await pool.end();
      }
      await system.start('provisioning');
      const all = await sendmux('ses', 'mail-from', '--all', '--json');
      expect(all).toMatchObject({ status: 0 });
      const given = JSON.parse(all.stdout) as { name: string; mailFromDomain: string }[];
      expect(new Set(given)).toEqual(new Set(names.map((name) => ({ name, mailFromDomain: `bounce.${name}` }))));
      for (const name of names) expect(await mailFromOf(name)).toBe(`bounce.${name}`);
      expect(await sendmux('ses', 'mail-from', '--all', '--json')).toMatchObject({ status: 0, stdout: '[]\n' });

      await system.sandbox.plantIdentity(names[0]!, (await has(names[0]!)).ses!);
      expect(await mailFromOf(names[0]!)).toBeUndefined();
      const one = await sendmux('ses', 'mail-from', names[0]!);
      expect(one).toMatchObject({ status: 0, stdout: expect.stringContaining(`bounce.${names[0]}`) as string });
      expect(await mailFromOf(names[0]!)).toBe(`bounce.${names[0]}`);
      expect(await sendmux('ses', 'mail-from', 'nobody.acme.com')).toMatchObject({ status: 1 });
      expect(await sendmux('ses', 'mail-from')).toMatchObject({ status: 2 });
    });

    it('P2: SES has the name without our tag: refused, left as it is, and adopted by an operator', async () => {
      const name = newName();
      await system.sandbox.plantIdentity(name);
      const { tokens } = (await system.sandbox.identities()).find((each) => each.name === name)!;
      const refused = await api.add(name);
      expect(refused).toMatchObject({ status: 502, body: { error: { errors: [{ code: 'ses_foreign' }] } } });
      expect(JSON.stringify(refused.body)).toContain('contact@sendmux.ai');
      expect(system.log('provisioning')).toContain(`bin/sendmux ses show ${name}`);
      await rolledBack(name);
      expect(await has(name)).toEqual({ mailServer: null, ses: 'foreign' });

      expect(await sendmux('ses', 'show', name)).toMatchObject({
        status: 0,
        stdout: expect.stringContaining(`sendmux ses adopt ${name}`) as string,
      });
      expect(await sendmux('ses', 'adopt', name)).toMatchObject({ status: 2 });
      expect(await has(name)).toEqual({ mailServer: null, ses: 'foreign' });
      expect(await sendmux('ses', 'adopt', name, '--account', '123456789012')).toMatchObject({ status: 0 });
      const added = await api.add(name);
      expect(added.status).toBe(201);
      const { data } = added.body as { data: { id: string; dns_records: { dkim: { name: string }[] } } };
      const names = data.dns_records.dkim.map((record) => record.name);
      expect(names).toEqual(tokens.map((token) => `${token}._domainkey.${name}`));
      expect((await api.delete(data.id)).status).toBe(200);
      expect(await has(name)).toEqual({ mailServer: null, ses: null });
    });

    it('P2: or released by an operator, who says that it is to be deleted; never while it is a domain’s', async () => {
      const name = newName();
      await system.sandbox.plantIdentity(name);
      expect(await sendmux('ses', 'release', name)).toMatchObject({ status: 2 });
      expect(await has(name)).toEqual({ mailServer: null, ses: 'foreign' });
      expect(await sendmux('ses', 'release', name, '--yes')).toMatchObject({ status: 0 });
      const added = await api.add(name);
      await bothAfter(name, added);
      const { id } = (added.body as { data: { id: string } }).data;
      for (const args of [
        ['adopt', name, '--account', '123456789012'],
        ['release', name, '--yes'],
      ])
        expect(await sendmux('ses', ...args)).toMatchObject({
          status: 1,
          stderr: expect.stringContaining(`that of the domain ${id}`) as string,
        });
      expect(await sendmux('ses', 'show', newName())).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(/^sendmux: SES has no identity /) as string,
      });
    });

    it('SES fails while a domain is deleted: 503, and gone once it is up', async () => {
      const name = newName();
      const added = await api.add(name);
      const { id } = (added.body as { data: { id: string } }).data;
      await system.sandbox.fault('ses', { mode: 'error', operations: ['DeleteEmailIdentity', 'GetEmailIdentity'] });
      const first = await api.delete(id);
      expect(first.status).toBe(503);
      expect(first.headers.get('retry-after')).toMatch(/^\d+$/);
      expect((await api.get(id)).body).toMatchObject({ data: { verification_status: 'pending', deleting: true } });
      await system.sandbox.allWell();
      expect((await api.delete(id)).status).toBe(200);
      expect(await has(name)).toEqual({ mailServer: null, ses: null });
      expect((await api.get(id)).status).toBe(404);
    });
  });

  describe('provisioning is killed', () => {
    /** The calls of SES at which the provisioning of a domain is blocked, so that it can be killed there. */
    const points = [
      { where: 'between the mail server and SES', mode: 'hang', operation: 'CreateEmailIdentity' },
      { where: 'after SES has it, before that is known', mode: 'hang_after', operation: 'CreateEmailIdentity' },
      {
        where: 'before its MAIL FROM domain is set',
        mode: 'hang',
        operation: 'PutEmailIdentityMailFromAttributes',
      },
      {
        where: 'after its MAIL FROM domain is set, before that is recorded',
        mode: 'hang_after',
        operation: 'PutEmailIdentityMailFromAttributes',
      },
    ];

    /** Adds a domain for each point, kills provisioning once it stands still at all of them, and ends the faults. */
    async function killedAtAllPoints(): Promise<{ where: string; name: string; answer: Promise<Answer> }[]> {
      const adds = [];
      for (const { where, mode, operation } of points) {
        const name = newName();
        await system.sandbox.fault('ses', { mode, operations: [operation], name });
        adds.push({ where, name, operation, answer: api.add(name) });
      }
      for (const { where, name, operation } of adds)
        await system.until(`the work stands still ${where}`, () => asked(operation, name));
      await system.kill('provisioning');
      await system.sandbox.allWell();
      return adds;
    }

    async function killedBeforeTheMailServerHasIt(to: ApiClient): Promise<{ name: string; answer: Promise<Answer> }> {
      const name = newName();
      const unlock = await lockMailServer(system);
      const answer = to.add(name);
      await system.until('the work stands still', () => someoneWaits(system));
      await system.kill('provisioning');
      await unlock();
      return { name, answer };
    }

    it('before the mail server has it, and comes back in time: both', async () => {
      const { name, answer } = await killedBeforeTheMailServerHasIt(api);
      await system.start('provisioning');
      await bothAfter(name, await answer);
    });

    it('before the mail server has it, and comes back too late: neither', async () => {
      const { name, answer } = await killedBeforeTheMailServerHasIt(hasty);
      expect((await answer).status).toBe(504);
      await system.start('provisioning');
      await neitherAndFree(name);
    });

    it('between, before and after each step at SES, and comes back in time: both', async () => {
      const adds = await killedAtAllPoints();
      await system.start('provisioning');
      for (const { name, answer } of adds) await bothAfter(name, await answer);
    });

    it('between, before and after each step at SES, and comes back too late: neither', async () => {
      const adds = await killedAtAllPoints();
      for (const { where, answer } of adds) expect([where, (await answer).status]).toEqual([where, 504]);
      await system.start('provisioning');
      for (const { name } of adds) await rolledBack(name);
      for (const { name } of adds) await neitherAndFree(name);
    });

    it('before it has received the event: neither', async () => {
      const name = newName();
      await system.kill('provisioning');
      expect((await hasty.add(name)).status).toBe(504);
      await system.start('provisioning');
      await neitherAndFree(name);
    });

    /** The calls of SES at which a removal is blocked. */
    const removals = [
      { operation: 'GetEmailIdentity', mode: 'hang' },
      { operation: 'DeleteEmailIdentity', mode: 'hang' },
      { operation: 'DeleteEmailIdentity', mode: 'hang_after' },
    ];

    it('in a rollback, before and after each step: neither', async () => {
      const names = removals.map(() => newName());
      // SES creates the identities without an answer, and fails from then on until the deadline has passed.
      await system.sandbox.fault('ses', { mode: 'hang_after', operations: ['CreateEmailIdentity'] });
      const answers = names.map((name) => api.add(name));
      for (const name of names) await system.until('SES has it', async () => (await has(name)).ses);
      await system.sandbox.fault('ses', { mode: 'error' });
      for (const answer of answers) expect((await answer).status).toBe(504);
      await system.kill('provisioning');
      await system.sandbox.allWell();
      for (const [index, { operation, mode }] of removals.entries())
        await system.sandbox.fault('ses', { mode, operations: [operation], name: names[index]! });
      const { length: before } = await system.sandbox.sesCalls();
      await system.start('provisioning');
      // One whose call has had its effect goes on after a second.
      await system.until('the rollbacks stand still', async () => {
        const calls = (await system.sandbox.sesCalls()).slice(before);
        return removals.every(({ operation }, index) =>
          calls.some((call) => call.operation === operation && call.name === names[index]),
        );
      });
      await system.kill('provisioning');
      await system.sandbox.allWell();
      await system.start('provisioning');
      for (const name of names) await neitherAndFree(name);
    });

    it('in a deletion, before and after each step: gone', async () => {
      const names = removals.map(() => newName());
      const ids: string[] = [];
      for (const name of names) ids.push(((await api.add(name)).body as { data: { id: string } }).data.id);
      for (const [index, { operation, mode }] of removals.entries())
        await system.sandbox.fault('ses', { mode, operations: [operation], name: names[index]! });
      const answers = ids.map((id) => api.delete(id));
      for (const [index, { operation }] of removals.entries())
        await system.until('the work stands still', () => asked(operation, names[index]!));
      await system.kill('provisioning');
      await system.sandbox.allWell();
      await system.start('provisioning');
      for (const answer of answers) expect([200, 503]).toContain((await answer).status);
      for (const name of names) {
        await system.until('it is gone', async () => (await statusOf(system, name)) === 'deleted');
        expect(await has(name)).toEqual({ mailServer: null, ses: null });
        expect((await api.add(name)).status).toBe(201);
      }
    });
  });
});
