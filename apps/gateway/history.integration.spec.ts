import fc from 'fast-check';
import type { CommandContext } from '@app/decider';
import {
  AddDomain,
  ChooseDomainOutboundProvider,
  CompleteDeletion,
  CompleteIdentityRepair,
  CompleteProvisioning,
  RecordCheck,
  RequestDeletion,
  RequestIdentityRepair,
  type DomainCommand,
} from '@app/mail-domain';
import type { Finding } from '@app/mail-records';
import { EventStore } from '@app/event-store';
import { newId } from '@app/runtime';
import { Pool } from 'pg';
import type { HistoryEntrySchema } from './domains/history.dto';
import { startGateway, type TestGateway } from '../../test/support/gateway';
import { migratedDatabase } from '../../test/support/migrated-database';
import { sample } from '../../test/support/sample';
import type { TestDatabase } from '../../test/support/test-database';

let database: TestDatabase;
let gateway: TestGateway;
let acme: { key: string; team: string; id: string };
let other: { key: string; team: string; id: string };

beforeAll(async () => {
  database = await migratedDatabase('service');
  gateway = await startGateway(database.url);
  acme = await gateway.key();
  other = await gateway.key();
});
afterAll(async () => {
  await gateway.close();
  await database.drop();
});

let count = 0;
const freshName = () => `past${(count += 1)}.acme.com`;
const call = (method: string, path: string, key = acme.key, body?: unknown, headers?: Record<string, string>) =>
  gateway.call(method, `/api/v1/domains${path}`, { key, body, headers });
const add = async (name: string, key = acme.key) => (await call('POST', '', key, { domain: name })).body.data.id;
const asOf = (id: string, time: string, key = acme.key, headers?: Record<string, string>) =>
  call('GET', `/${id}?as_of=${encodeURIComponent(time)}`, key, undefined, headers);

async function history(id: string, limit = 100, key = acme.key): Promise<HistoryEntrySchema[]> {
  const entries: HistoryEntrySchema[] = [];
  for (let cursor: string | undefined = ''; cursor !== undefined;) {
    const { status, body } = await call('GET', `/${id}/history?limit=${limit}${cursor && `&cursor=${cursor}`}`, key);
    expect(status).toBe(200);
    const page = body.data as unknown as HistoryEntrySchema[];
    expect(page.length).toBeLessThanOrEqual(limit);
    expect(body.pagination.has_more).toBe('next_cursor' in body.pagination);
    entries.push(...page);
    cursor = body.pagination.next_cursor;
  }
  return entries;
}

describe('the history of a domain', () => {
  it('says what happened, who did it, by which request, and what caused it', async () => {
    const name = freshName();
    const id = await add(name);
    gateway.verifier.findings = { mx: { outcome: 'fail', code: 'mx_missing' } };
    const verification = await call('POST', `/${id}/verify`);
    gateway.verifier.findings = {};
    const entries = await history(id);
    expect(entries.map(({ id: entry, type, sentence }) => [entry, type, sentence])).toEqual([
      [`${id}/1`, 'DomainAdded', `${name} was added, and its name reserved.`],
      [
        `${id}/2`,
        'DomainProvisioned',
        `The mail server and Amazon SES (eu-west-1) have ${name} now; it is pending until its DNS records are in place.`,
      ],
      [`${id}/3`, 'DnsChecked', `A requested check of ${name} found the MX record missing.`],
    ]);
    expect(Object.keys(entries[0]!)).toEqual(
      'id version time type sentence actor request_id correlation_id causation_id data'.split(' '),
    );
    expect(entries[0]).toMatchObject({
      actor: { type: 'key', id: acme.id, words: `The API key ${acme.id}` },
      request_id: expect.stringMatching(/^req_/) as string,
      correlation_id: entries[0]!.request_id,
      causation_id: null,
      data: { name, team: acme.team },
    });
    expect(entries[1]).toMatchObject({
      actor: { type: 'process', id: 'provisioning', words: 'Sendmux, provisioning' },
      request_id: null,
    });
    expect(entries[2]).toMatchObject({
      request_id: verification.body.meta.request_id,
      data: {
        trigger: 'requested',
        findings: expect.arrayContaining([expect.objectContaining({ check: 'mx', code: 'mx_missing' })]) as unknown,
      },
    });
  });

  it('names the event that led to another', async () => {
    const id = await add(freshName());
    const context: CommandContext = {
      at: new Date().toISOString(),
      actor: 'provisioning',
      correlationId: 'req_1',
      causationId: `${id}/1`,
    };
    await gateway.execute(new RequestIdentityRepair(id, { fault: 'missing' }, context));
    expect((await history(id)).at(-1)).toMatchObject({ causation_id: `${id}/1`, correlation_id: 'req_1' });
  });

  it('has stable pages, and refuses malformed cursors and those of another domain', async () => {
    const id = await add(freshName());
    for (const outbound_provider of ['mailgun', null, 'mailgun'])
      await call('PUT', `/${id}/outbound-provider`, acme.key, { outbound_provider });
    const first = await call('GET', `/${id}/history?limit=2`);
    await call('POST', `/${id}/verify`);
    const again = await call('GET', `/${id}/history?limit=2`);
    expect(JSON.stringify(again.body.data)).toBe(JSON.stringify(first.body.data));
    const all = await history(id);
    expect(all.map(({ version }) => version)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    for (const limit of [1, 2, 3, 7]) expect(await history(id, limit)).toEqual(all);

    const foreign = (await call('GET', `/${await add(freshName())}/history?limit=1`)).body.pagination.next_cursor;
    const made = (text: string) => Buffer.from(text).toString('base64url');
    for (const cursor of [foreign, 'x', made(id), made(`${id}/0`), made(`${id}/1/2`), made(`${id}/-1`)])
      expect(await call('GET', `/${id}/history?cursor=${cursor}`)).toMatchObject({
        status: 400,
        body: { error: { code: 'invalid_parameter', param: 'cursor' } },
      });
  });

  it('reads for a page no more than the page, however long the stream is', async () => {
    const id = await add(freshName());
    for (let i = 0; i < 12; i++)
      await gateway.execute(check(id, 'requested', i % 2 === 0 ? {} : { mx: 'fail' }, contextAt(Date.now())));
    const all = await history(id);
    expect(all.length).toBeGreaterThan(20);
    const store = gateway.app.get(EventStore, { strict: false });
    const [readStream, lastBefore] = [jest.spyOn(store, 'readStream'), jest.spyOn(store, 'lastBefore')];
    try {
      for (const limit of [1, 2, 3, 5]) expect(await history(id, limit)).toEqual(all);
      const read = await Promise.all(readStream.mock.results.map(({ value }) => value as Promise<unknown[]>));
      expect(Math.max(...read.map((events) => events.length))).toBe(6);
      // A sentence says "again", so the first one of a page may need one event more.
      expect(lastBefore.mock.calls.length).toBeLessThan(readStream.mock.calls.length / 2);
    } finally {
      readStream.mockRestore();
      lastBefore.mockRestore();
    }
  });

  it('stays readable for the team of a deleted domain, even when another team has the name', async () => {
    const name = freshName();
    const id = await add(name);
    expect((await call('DELETE', `/${id}`)).status).toBe(200);
    const before = await history(id);
    expect(before.map(({ type }) => type).slice(-2)).toEqual(['DomainDeletionRequested', 'DomainDeleted']);
    const theirs = await add(name, other.key);
    expect(await history(id)).toEqual(before);
    expect(await history(theirs, 100, other.key)).toHaveLength(2);
    const [foreign, never, deleted] = [theirs, newId('mdom'), id];
    const answers = [
      await call('GET', `/${foreign}/history`),
      await call('GET', `/${never}/history`),
      await call('GET', `/${deleted}/history`, other.key),
    ];
    expect(answers.map(({ status, body }) => [status, body.error.message.replace(/mdom_\w+/, 'it')])).toEqual(
      answers.map(() => [404, 'There is no domain it.']),
    );
  });

  it('shows the team an add that failed, which was never visible as a domain', async () => {
    const name = freshName();
    gateway.plans.set(name, { step: 'ses', kind: 'refused', isOurs: false, reason: 'It does not accept the name.' });
    expect((await call('POST', '', acme.key, { domain: name })).status).toBe(502);
    const pool = new Pool({ connectionString: database.url });
    const { rows } = await pool.query<{ id: string }>('SELECT id FROM domains WHERE name = $1', [name]);
    await pool.end();
    const { id } = rows[0]!;
    const entries = await history(id);
    expect(entries[1]).toMatchObject({
      sentence: `${name} could not be added: It does not accept the name. What was done of it is being taken back.`,
    });
    for (const { time } of entries) expect((await asOf(id, time)).status).toBe(404);
    expect((await call('GET', `/${id}/history`, other.key)).status).toBe(404);
  });
});

const contextAt = (time: number): CommandContext => ({
  at: new Date(time).toISOString(),
  actor: 'provisioning',
  correlationId: 'req_1',
});

const checks = ['mx', 'verification_txt', 'spf', 'dmarc', 'dkim'] as const;
function check(
  id: string,
  trigger: 'requested' | 'scheduled',
  outcomes: Partial<Record<(typeof checks)[number], Finding['outcome']>>,
  context: CommandContext,
): RecordCheck {
  const findings = checks.map((name): Finding => ({
    check: name,
    outcome: outcomes[name] ?? 'pass',
    code: `${name}_${outcomes[name] ?? 'ok'}`,
    message: '',
    name: 'n',
    type: 'TXT',
    expected: 'x',
    observed: [],
  }));
  const cycle = trigger === 'scheduled' ? Date.parse(context.at) : null;
  return new RecordCheck(
    id,
    { findings, sesDkimStatus: outcomes.dkim === 'fail' ? 'failed' : 'success', trigger, cycle },
    context,
  );
}

describe('a read with as_of', () => {
  it('gives the domain of that time with its ETag, and the time as it was understood', async () => {
    const id = await add(freshName());
    const [, provisioned] = await history(id);
    await call('POST', `/${id}/verify`);
    const then = await asOf(id, provisioned!.time);
    expect(then).toMatchObject({
      status: 200,
      body: {
        data: { verification_status: 'pending', last_checked_at: null, next_check_at: null },
        meta: { as_of: provisioned!.time },
      },
    });
    expect(then.headers.get('etag')).toBe('W/"2"');
    expect((await asOf(id, provisioned!.time, acme.key, { 'if-none-match': '"2"' })).status).toBe(304);
    expect((await asOf(id, 'now', acme.key, { 'if-none-match': '"2"' })).status).toBe(200);
    const now = await asOf(id, 'now');
    expect(now.body.data.verification_status).toBe('verified');
    expect(Date.now() - Date.parse(now.body.meta.as_of!)).toBeLessThan(10_000);
    const east = new Date(Date.parse(provisioned!.time) + 36_000_000).toISOString().replace('Z', '+10:00');
    for (const path of [`?as_of=${east}`, `?as_of=${encodeURIComponent(east)}`])
      expect((await call('GET', `/${id}${path}`)).body.meta.as_of).toBe(provisioned!.time);
    // A read without the parameter has no `as_of`.
    expect((await call('GET', `/${id}`)).body.meta).not.toHaveProperty('as_of');
  });

  it('refuses malformed and future times', async () => {
    const id = await add(freshName());
    for (const time of ['', 'soon', '2026-02-30', '6h'])
      expect(await asOf(id, time)).toMatchObject({
        status: 400,
        body: {
          error: {
            code: 'invalid_parameter',
            param: 'as_of',
            message: expect.stringContaining('2026-03-01T10:00:00+10:00') as string,
          },
        },
      });
    expect(await call('GET', `/${id}?as_of=now&as_of=now`)).toMatchObject({
      status: 400,
      body: { error: { param: 'as_of' } },
    });
    for (const time of ['tomorrow', new Date(Date.now() + 60_000).toISOString()]) {
      expect(await asOf(id, time)).toMatchObject({
        status: 400,
        body: { error: { param: 'as_of', message: expect.stringContaining('yet to come') as string } },
      });
      expect((await asOf(id, time, other.key)).status).toBe(404);
    }
    for (const time of ['2020-01-01', '-1w', 'yesterday']) expect((await asOf(id, time)).status).toBe(404);
  });

  it('accepts the time of the last event, even if that is ahead of its own clock', async () => {
    const id = await add(freshName());
    const ahead = Date.now() + 60_000;
    await gateway.execute(new ChooseDomainOutboundProvider(id, { provider: 'mailgun' }, contextAt(ahead)));
    // The clock of this gateway is behind, so its event gets the time of the event before.
    await call('PUT', `/${id}/outbound-provider`, acme.key, { outbound_provider: null });
    const times = (await history(id)).map(({ time }) => time);
    expect(times.slice(2)).toEqual([contextAt(ahead).at, contextAt(ahead).at]);
    expect((await asOf(id, times[3]!)).headers.get('etag')).toBe('W/"4"');
    expect((await asOf(id, contextAt(ahead + 1).at)).status).toBe(400);
  });

  const outcome = fc.constantFrom<Finding['outcome']>('pass', 'pass', 'pass', 'fail', 'indeterminate');
  const outcomes = fc.oneof(fc.constant({}), fc.record({ mx: outcome, spf: outcome, dkim: outcome }));
  const token = fc.constantFrom('token1', 'token4');
  const act = fc.oneof(
    { weight: 4, arbitrary: fc.tuple(fc.constant('scheduled' as const), outcomes) },
    { weight: 2, arbitrary: fc.tuple(fc.constant('requested' as const), outcomes) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('provider' as const), fc.constantFrom('mailgun', null)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('lost' as const), fc.constant(null)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('repaired' as const), token) },
  );
  /** Milliseconds between two events. Negative and zero steps stand for writers whose clocks differ. */
  const step = fc.oneof(
    fc.constant(0),
    fc.integer({ min: -5_000, max: 5_000 }),
    fc.integer({ min: 0, max: 36_000_000 }),
  );
  const life = fc.record({
    steps: fc.array(fc.tuple(act, step), { minLength: 60, maxLength: 100 }),
    isDeleted: fc.boolean(),
  });

  it('gives for the time of every event what the API answered then, for generated events', async () => {
    const dkim = { dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1', sesDkimStatus: 'pending' } as const;
    const tokens = ['token1', 'token2', 'token3'];
    await fc.assert(
      fc.asyncProperty(life, async ({ steps, isDeleted }) => {
        const [id, name] = [newId('mdom'), freshName()];
        gateway.plans.set(name, 'ignore');
        gateway.kept.add(name);
        let clock = Date.parse('2026-01-01T00:00:00Z');
        /** The answers of the API after the last event of each time, by that time in milliseconds. */
        const answered = new Map<number, string>();
        let version = 0;
        const does = async (command: (context: CommandContext) => DomainCommand) => {
          await gateway.execute(command(contextAt(clock)));
          const entries = (await history(id, 100)).slice(version);
          version += entries.length;
          if (entries.length === 0) return;
          const { status, body } = await call('GET', `/${id}`);
          // A read of the past has no `next_check_at`, as the OpenAPI document says.
          const data = status === 200 ? { ...body.data, next_check_at: null } : null;
          answered.set(Date.parse(entries.at(-1)!.time), JSON.stringify([status, data]));
        };
        const deadline = new Date(clock).toISOString();
        await does((context) => new AddDomain(id, { name, team: acme.team, deadline }, context));
        clock += 1_000;
        await does((context) => new CompleteProvisioning(id, { ...dkim, dkimTokens: tokens }, context));
        for (const [[kind, what], ms] of steps) {
          clock += ms;
          await does((context) => {
            switch (kind) {
              case 'scheduled':
              case 'requested':
                return check(id, kind, what, context);
              case 'provider':
                return new ChooseDomainOutboundProvider(id, { provider: what }, context);
              case 'lost':
                return new RequestIdentityRepair(id, { fault: 'missing' }, context);
              case 'repaired':
                return new CompleteIdentityRepair(id, { ...dkim, dkimTokens: [what, ...tokens.slice(1)] }, context);
            }
          });
        }
        if (isDeleted) {
          await does((context) => new RequestDeletion(id, context));
          clock += 1_000;
          await does((context) => new CompleteDeletion(id, context));
        }

        const entries = await history(id, 7);
        expect(entries.map((entry) => entry.version)).toEqual(entries.map((_, i) => i + 1));
        const times = [...answered.keys()];
        expect(times).toEqual([...times].sort((a, b) => a - b));
        expect(new Set(entries.map(({ time }) => Date.parse(time)))).toEqual(new Set(times));
        const then = async (time: number) => {
          const { status, body } = await asOf(id, new Date(time).toISOString());
          return JSON.stringify([status, status === 200 ? body.data : null]);
        };
        let before = JSON.stringify([404, null]);
        for (const time of times) {
          if (!answered.has(time - 1)) expect([time, await then(time - 1)]).toEqual([time, before]);
          before = answered.get(time)!;
          expect([time, await then(time)]).toEqual([time, before]);
        }
        expect(await then(Date.now())).toBe(before);
      }),
      { numRuns: sample(3, 6), seed: Date.now() & 0x7fffffff, endOnFailure: true },
    );
  });
});
