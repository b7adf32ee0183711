import { RecordCheck } from '@app/mail-domain';
import { ownership } from '@app/mail-records';
import { openPool } from '@app/database';
import { allow } from '@app/read-model';
import { Purge } from '../purge.service';
import { startGateway, type TestGateway } from '../../../test/support/gateway';
import { migratedDatabase } from '../../../test/support/migrated-database';
import type { TestDatabase } from '../../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
});
afterAll(async () => {
  await gateway?.close();
  await database?.drop();
});
beforeEach(() => void (gateway.verifier.findings = {}));

let names = 0;
type Party = Awaited<ReturnType<TestGateway['key']>>;
const base = '/api/v1/domains/claims';

/** Adds a domain of one team; another one wants it. */
async function wanted(isVerified = false) {
  const [holder, claimer] = [await gateway.key(), await gateway.key()];
  const name = `d${(names += 1)}.example.com`;
  const added = await gateway.call('POST', '/api/v1/domains', { key: holder.key, body: { domain: name } });
  const { id } = added.body.data;
  if (isVerified) await gateway.call('POST', `/api/v1/domains/${id}/verify`, { key: holder.key });
  return { holder, claimer, name, id };
}
const open = (party: Party, domain: string, headers = {}) =>
  gateway.call('POST', base, { key: party.key, body: { domain }, headers });
const verify = (party: Party, id: string) => gateway.call('POST', `${base}/${id}/verify`, { key: party.key });
const claimOf = async (party: Party, name: string) => (await open(party, name)).body.data.id;

describe('opening a claim', () => {
  it('answers alike for what others hold, verified or not, and says what to do with any other name', async () => {
    const answers = [];
    for (const isVerified of [false, true]) {
      const { claimer, name, holder, id } = await wanted(isVerified);
      const { status, headers, body } = await open(claimer, name.toUpperCase());
      expect(headers.get('location')).toBe(`${base}/${body.data.id}`);
      const { id: _, domain, record, created_at: __, expires_at: ___, ...rest } = body.data;
      expect([domain, record]).toEqual([
        name,
        { type: 'TXT', name: `_sendmux.${name}`, value: `sendmux-verify=${claimer.team}` },
      ]);
      answers.push({ code: status, ...rest });
      expect((await open(holder, name)).body.error.message).toBe(`Your team has ${name} already, as ${id}.`);
      expect((await open(claimer, name)).body.error.message).toBe(
        `Your team claims ${name} already, as ${body.data.id}.`,
      );
    }
    expect(answers[0]).toEqual(answers[1]);
    const free = await open(await gateway.key(), 'free.example.com');
    expect([free.status, free.body.error.message]).toEqual([
      409,
      'free.example.com is free. Add it with POST /domains.',
    ]);
    expect((await open(await gateway.key(), 'no name')).status).toBe(400);
  });

  it('is repeated by its Idempotency-Key, listed, read and withdrawn by its team alone', async () => {
    const { claimer, name, holder } = await wanted();
    const headers = { 'idempotency-key': 'once' };
    const [first, second] = [await open(claimer, name, headers), await open(claimer, name, headers)];
    const { id } = first.body.data;
    expect([second.status, second.body.data.id, second.headers.get('idempotent-replayed')]).toEqual([201, id, 'true']);
    const list = async (party: Party) =>
      ((await gateway.call('GET', base, { key: party.key })).body.data as unknown as { id: string }[]).map(
        (each) => each.id,
      );
    expect([await list(claimer), await list(holder)]).toEqual([[id], []]);
    for (const [method, path] of [
      ['GET', `${base}/${id}`],
      ['POST', `${base}/${id}/verify`],
      ['DELETE', `${base}/${id}`],
    ] as const)
      expect((await gateway.call(method, path, { key: holder.key })).status).toBe(404);
    const read = await gateway.key({ role: 'root:readonly' });
    expect((await open(read, name)).status).toBe(403);
    expect((await gateway.call('DELETE', `${base}/${id}`, { key: claimer.key })).body.data).toEqual({
      deleted: true,
      id,
    });
    expect((await gateway.call('GET', `${base}/${id}`, { key: claimer.key })).status).toBe(404);
  });

  it('is limited to 20 open claims a team, however many are asked for at once', async () => {
    const { claimer } = await wanted();
    const held = await Promise.all(Array.from({ length: 24 }, () => wanted()));
    const opened = await Promise.all(held.map(({ name }) => open(claimer, name)));
    expect(opened.filter(({ status }) => status === 201)).toHaveLength(20);
    const refused = opened.find(({ status }) => status !== 201)!;
    expect(refused.body.error).toMatchObject({ code: 'limit_exceeded', current: 20, limit: 20 });
  });
});

describe('verifying a claim', () => {
  it('takes a name that was never verified, once its record is there', async () => {
    const { claimer, name, id, holder } = await wanted();
    const claim = await claimOf(claimer, name);
    expect((await verify(claimer, claim)).body.data).toMatchObject({
      status: 'pending',
      reason: { code: 'txt_missing' },
      last_checked_at: expect.any(String) as string,
    });
    gateway.verifier.owners.set(name, 'unreachable');
    const undecided = await verify(claimer, claim);
    expect([undecided.status, undecided.headers.get('retry-after')]).toEqual([503, '10']);
    gateway.verifier.owners.set(name, [holder.team, claimer.team]);
    const [won, again] = await Promise.all([verify(claimer, claim), verify(claimer, claim)]);
    for (const { status, body } of [won, again]) expect([status, body.data.status]).toEqual([200, 'succeeded']);
    const { domain_id: ours } = won.body.data;
    const past = await gateway.call('GET', `/api/v1/domains/${ours}/history`, { key: claimer.key });
    const [{ time, data }] = past.body.data as unknown as [{ time: string; data: { deadline: string } }];
    expect(Date.parse(data.deadline) - Date.parse(time)).toBe(7 * 86_400_000);
    expect((await gateway.call('GET', `/api/v1/domains/${ours}`, { key: claimer.key })).body.data.domain).toBe(name);
    for (const [method, path] of [
      ['GET', ''],
      ['DELETE', ''],
      ['POST', '/verify'],
    ] as const)
      expect((await gateway.call(method, `/api/v1/domains/${id}${path}`, { key: holder.key })).status).toBe(404);
    expect((await verify(claimer, claim)).body.data).toMatchObject({ status: 'succeeded', domain_id: ours });
  });

  it('tells the loser what happened, and nothing of the winner', async () => {
    const { claimer, name, id, holder } = await wanted();
    const claim = await claimOf(claimer, name);
    gateway.verifier.owners.set(name, [claimer.team]);
    const won = await verify(claimer, claim);
    const told = await gateway.call('GET', `/api/v1/domains/${id}/history`, { key: holder.key });
    const entry = (told.body.data as unknown as { type: string; actor: object; request_id: null }[]).find(
      ({ type }) => type === 'DomainReleased',
    );
    expect(entry).toMatchObject({
      actor: { type: 'process', words: 'Sendmux, for the claim of another team' },
      request_id: null,
      data: { claim },
    });
    const said = (answer: typeof told) =>
      (answer.body.data as unknown as { sentence: string }[]).map(({ sentence }) => sentence);
    const gone = `What this team had of ${name} is gone from the mail server and Amazon SES.`;
    expect(said(told).slice(2)).toEqual([expect.stringContaining('while it was never verified here'), gone]);
    const path = `/api/v1/domains/${id}/history?limit=3`;
    const { next_cursor: cursor } = (await gateway.call('GET', path, { key: holder.key })).body.pagination;
    expect(said(await gateway.call('GET', `${path}&cursor=${cursor}`, { key: holder.key }))).toEqual([gone]);
    for (const secret of [claimer.team, claimer.id, won.body.data.domain_id, won.body.meta.request_id])
      expect(told.text).not.toContain(secret);
  });

  it('is refused while the name was verified, and its record is there or not gone for long', async () => {
    const { claimer, name, id, holder } = await wanted(true);
    const claim = await claimOf(claimer, name);
    gateway.verifier.owners.set(name, [claimer.team, holder.team]);
    expect((await verify(claimer, claim)).body.data).toMatchObject({
      status: 'refused',
      reason: { code: 'held_by_record', message: expect.stringContaining(`_sendmux.${name}`) as string },
    });
    // What one resolver alone sees does not decide.
    gateway.verifier.owners.set(name, [claimer.team]);
    gateway.verifier.propagating.set(name, [holder.team]);
    const undecided = await verify(claimer, claim);
    expect([undecided.status, undecided.body.error.message]).toEqual([
      503,
      expect.stringContaining('different answers'),
    ]);
    expect((await gateway.call('GET', `${base}/${claim}`, { key: claimer.key })).body.data.status).toBe('refused');
    gateway.verifier.propagating.delete(name);
    expect((await verify(claimer, claim)).body.data).toMatchObject({
      status: 'refused',
      reason: { code: 'held_in_grace', message: expect.stringMatching(/ again then\.$/) as string },
    });
    // A look that finds the record gone begins the time of grace.
    gateway.verifier.findings = { [ownership.name]: { outcome: 'fail', code: 'txt_missing' } };
    await gateway.call('POST', `/api/v1/domains/${id}/verify`, { key: holder.key });
    expect((await verify(claimer, claim)).body.data.reason!.message).toMatch(/ again after \d{4}-\d\d-\d\dT/);
    expect((await gateway.call('GET', `/api/v1/domains/${id}`, { key: holder.key })).status).toBe(200);
  });

  it('begins the time of grace of a domain that has failed, which no cycle looks at, and ends it', async () => {
    const { claimer, name, id, holder } = await wanted(true);
    const broken = { mx: { outcome: 'fail', code: 'mx_missing' } } as const;
    gateway.verifier.findings = broken;
    await gateway.call('POST', `/api/v1/domains/${id}/verify`, { key: holder.key });
    for (const cycle of [1, 2])
      await gateway.execute(
        new RecordCheck(
          id,
          {
            trigger: 'scheduled',
            cycle,
            sesDkimStatus: 'success',
            findings: [
              { check: 'mx', ...broken.mx, message: '', name, type: 'MX', expected: 'x', observed: [String(cycle)] },
            ],
          },
          { at: new Date().toISOString(), actor: 'verification-scheduler', correlationId: 'c' },
        ),
      );
    const claim = await claimOf(claimer, name);
    gateway.verifier.owners.set(name, [claimer.team]);
    gateway.verifier.findings = { ...broken, [ownership.name]: { outcome: 'fail', code: 'txt_missing' } };
    expect((await verify(claimer, claim)).body.data.reason!.message).toMatch(/ again after \d{4}-\d\d-\d\dT/);
    // A claim that finds the record back ends it.
    gateway.verifier.owners.set(name, [claimer.team, holder.team]);
    gateway.verifier.findings = broken;
    expect((await verify(claimer, claim)).body.data.reason!.code).toBe('held_by_record');
    const told = await gateway.call('GET', `/api/v1/domains/${id}/history`, { key: holder.key });
    const looks = (told.body.data as unknown as { type: string; data: object }[]).filter(
      ({ type }) => type === 'DnsChecked',
    );
    expect(looks.map(({ data }) => 'beginsGrace' in data).slice(-2)).toEqual([true, false]);
  });

  it('adds a name that is free by then, and waits for one that changes hands', async () => {
    const { claimer, name, id, holder } = await wanted();
    const claim = await claimOf(claimer, name);
    gateway.verifier.owners.set(name, [claimer.team]);
    gateway.kept.add(name);
    const deletion = gateway.call('DELETE', `/api/v1/domains/${id}`, { key: holder.key });
    const isGoing = async () =>
      (await gateway.call('GET', `/api/v1/domains/${id}`, { key: holder.key })).body.data.deleting;
    await until(isGoing);
    const waits = await verify(claimer, claim);
    expect(waits.body.error).toMatchObject({ code: 'conflict', retryable: true });
    await gateway.endDeletion(id);
    await deletion;
    gateway.kept.delete(name);
    expect((await verify(claimer, claim)).body.data.status).toBe('succeeded');
  });

  it('counts for the quota of the team, and takes nothing beyond it', async () => {
    const { claimer, name, id, holder } = await wanted();
    const claim = await claimOf(claimer, name);
    gateway.verifier.owners.set(name, [claimer.team]);
    const pool = openPool(database.url, 1);
    const client = await pool.connect();
    await allow(client, claimer.team, 'domains', 0);
    const refused = await verify(claimer, claim);
    expect([refused.status, refused.body.error.code]).toEqual([409, 'limit_exceeded']);
    expect((await gateway.call('GET', `/api/v1/domains/${id}`, { key: holder.key })).status).toBe(200);
    await allow(client, claimer.team, 'domains', 1);
    client.release();
    await pool.end();
    expect((await verify(claimer, claim)).body.data.status).toBe('succeeded');
  });

  it('ends by itself', async () => {
    const { claimer, name } = await wanted();
    const claim = await claimOf(claimer, name);
    gateway.verifier.owners.set(name, [claimer.team]);
    const pool = openPool(database.url, 1);
    await pool.query(`UPDATE domain_claims SET expires_at = now() - interval '1 second' WHERE id = $1`, [claim]);
    await pool.end();
    expect((await verify(claimer, claim)).body.data.status).toBe('expired');
    expect((await open(claimer, name)).status).toBe(201);
  });

  it('is kept for 90 days after its end, whatever its team does', async () => {
    const { claimer, name } = await wanted();
    const claim = await claimOf(claimer, name);
    const pool = openPool(database.url, 1);
    const endedDaysAgo = async (days: number) => {
      await pool.query(`UPDATE domain_claims SET expires_at = now() - $2 * interval '1 day' WHERE id = $1`, [
        claim,
        days,
      ]);
      await gateway.app.get(Purge).run();
      return (await gateway.call('GET', `${base}/${claim}`, { key: claimer.key })).status;
    };
    expect([await endedDaysAgo(89), await endedDaysAgo(91)]).toEqual([200, 404]);
    await pool.end();
  });
});

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) if (Date.now() > deadline) throw new Error(`Not in time: ${condition.toString()}`);
}
