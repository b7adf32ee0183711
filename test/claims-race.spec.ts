import { generateKeyPairSync } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { Caller } from '@app/accounts';
import { auditMigrations, SealingKey, Seals, trusting, Verification } from '@app/audit';
import { DomainCommandHandler, type Commands } from '@app/commands';
import { migrate, openPool } from '@app/database';
import { EventLog, EventStore, eventStoreMigrations, type NewEvent } from '@app/event-store';
import {
  AddDomain,
  AnnounceExpiry,
  CompleteDeletion,
  CompleteProvisioning,
  domainEvent,
  DomainRuleBroken,
  evolve,
  ExpireDomain,
  initialState,
  RecordCheck,
  RequestDeletion,
  schemaVersions,
  sentenceOf,
  type DomainEvent,
  type MailDomain,
} from '@app/mail-domain';
import { checkNames, ownership, type Answer, type Assessment, type Expected, type TxtRr } from '@app/mail-records';
import { domainRow, DomainsReadModel, domainsProjection, readModelMigrations } from '@app/read-model';
import { compare } from '@app/rebuild';
import { newId } from '@app/runtime';
import { Verifier } from '@app/verification';
import type { Pool } from 'pg';
import { claimsMigrations } from '../apps/gateway/claims/claims.migration';
import { Claims } from '../apps/gateway/claims/claims.service';
import { StoredClaims } from '../apps/gateway/claims/stored-claims';
import { ApiError } from '../apps/gateway/http/api-error';
import { commandsTo } from './support/commands';
import { numbers } from './support/numbers';
import { sample } from './support/sample';
import { testDatabase, type TestDatabase } from './support/test-database';

const day = 86_400_000;
const graceMs = 7 * day;
/** The teams whose ownership records stand in the zone of a name. */
const zone = new Map<string, Set<string>>();
const recordsAt = (name: string): Set<string> => zone.get(name) ?? new Set();

const resolver = {
  txt: (at: string): Promise<Answer<TxtRr>> => {
    const teams = [...recordsAt(at.slice('_sendmux.'.length))];
    return Promise.resolve(
      teams.length > 0
        ? { kind: 'records', records: teams.map((team) => `sendmux-verify=${team}`), aliases: [] }
        : { kind: 'nxdomain', aliases: [] },
    );
  },
} as never;

/** Stands for one gateway: two of them share nothing but the database. */
class Gateway {
  readonly pool: Pool;
  readonly store: EventStore;
  readonly domains: DomainCommandHandler;
  readonly commands: Commands;
  readonly readModel: DomainsReadModel;
  readonly claims: Claims;

  constructor(url: string) {
    this.pool = openPool(url, 8);
    this.store = new EventStore(this.pool, domainsProjection);
    this.domains = new DomainCommandHandler(this.store);
    this.commands = commandsTo(this.domains);
    this.readModel = new DomainsReadModel(this.pool);
    const resolved = new Verifier([resolver, resolver], { get: () => Promise.resolve(null) });
    const verifier = {
      ownership: (name: string, teams: readonly string[]) => resolved.ownership(name, teams),
      check: ({ name, team }: Expected) => Promise.resolve(seen(name, team)),
    };
    const unheard = { expect: () => ({ within: () => Promise.resolve(undefined), drop: () => undefined }) };
    const shards = { inOne: <T>(add: (shard: string) => Promise<T>) => add('default') };
    const stored = new StoredClaims(this.pool);
    this.claims = new Claims(stored, this.commands, this.readModel, verifier, unheard, shards, graceMs);
  }
}

let database: TestDatabase;
let gateways: readonly Gateway[];
let one: Gateway;

beforeAll(async () => {
  Logger.overrideLogger(false);
  database = await testDatabase();
  await migrate(database.url, [
    ...eventStoreMigrations,
    ...readModelMigrations,
    ...claimsMigrations,
    ...auditMigrations,
  ]);
  gateways = [new Gateway(database.url), new Gateway(database.url)];
  [one] = gateways as [Gateway, Gateway];
});
afterAll(async () => {
  await Promise.all(gateways.map(({ pool }) => pool.end()));
  await database.drop();
});

const contextAt = (at: number, actor = 'key_1') => ({ at: new Date(at).toISOString(), actor, correlationId: 'c' });
const identity = {
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
  sesDkimStatus: 'success',
} as const;
const requestOf = (team: string) => ({
  caller: { team, keyId: `key_of_${team}` } as unknown as Caller,
  requestId: newId('req'),
});

/** What a look sees of a domain, of which all is in place but the ownership record. */
const seen = (name: string, team: string): Assessment => ({
  sesDkimStatus: 'success',
  findings: checkNames.map((check) => ({
    check,
    outcome: check !== ownership.name || recordsAt(name).has(team) ? ('pass' as const) : ('fail' as const),
    code: 'x',
    message: '',
    name,
    type: 'TXT' as const,
    expected: '',
    observed: [],
  })),
});

/** How the team that holds the name stands at the beginning. */
const beginnings = ['unverified', 'unverified', 'verified', 'gone', 'in grace'] as const;
type Beginning = (typeof beginnings)[number];

/** Stores a domain with a past, in one append. */
async function held(id: string, name: string, team: string, beginning: Beginning): Promise<void> {
  const now = Date.now();
  const look = (cycle: number) => ({ ...seen(name, team), trigger: 'scheduled', cycle });
  recordsAt(name).add(team);
  const past: [daysAgo: number, type: string, data: object][] = [
    [40, 'DomainAdded', { name, team, deadline: contextAt(now).at }],
    [40, 'DomainProvisioned', identity],
  ];
  if (beginning !== 'unverified') past.push([39, 'DnsChecked', look(1)], [39, 'DomainVerified', {}]);
  if (beginning === 'gone' || beginning === 'in grace') {
    recordsAt(name).delete(team);
    const daysAgo = beginning === 'gone' ? 8 : 3;
    const lost = { ...look(2), beginsGrace: true };
    past.push([daysAgo, 'DnsChecked', lost], [daysAgo, 'VerificationLapsed', { failing: [], strikes: 1 }]);
  }
  const events = past.map(
    ([daysAgo, type, data]) =>
      ({ type, domainId: id, at: contextAt(now - daysAgo * day).at, data }) as unknown as DomainEvent,
  );
  await one.store.append({
    stream: id,
    expectedVersion: 0,
    events: events.map(({ type, at, data }): NewEvent => ({
      type,
      schemaVersion: schemaVersions[type],
      data,
      time: at,
    })),
    metadata: { actor: 'test', correlationId: 'c' },
    row: domainRow(events.reduce(evolve, initialState), events.length, events.at(-1)!.at),
  });
}

/** Runs something that a rule, or the other side, may refuse; says which. */
async function outcome(act: () => Promise<unknown>): Promise<string> {
  try {
    await act();
    return 'done';
  } catch (error) {
    if (error instanceof DomainRuleBroken || error instanceof ApiError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

it('in thousands of interleavings of two teams a name has one owner, who is the one that has proved it', async () => {
  const seed = Number(process.env.SEED ?? Date.now() % 100_000);
  const interleavings = sample(400, 10_000);
  console.log(`${interleavings} interleavings, seed ${seed}`);
  const next = numbers(seed);
  const faults: string[] = [];
  const counts = { won: 0, refused: 0, verifiedFirst: 0, expiredFirst: 0, deletedFirst: 0, readded: 0, taken: 0 };
  const any = () => gateways[Math.floor(next() * 2)]!;
  let names = 0;

  /** Does what provisioning does, as long as there is something to do. */
  const converge = async (ids: readonly string[]) => {
    for (const id of ids) {
      const { state } = await any().domains.load(id);
      if (state.status === 'deleting' || state.status === 'released')
        await any().commands.execute(new CompleteDeletion(id, contextAt(Date.now(), 'provisioning')));
      if (state.status !== 'provisioning') continue;
      const before = state.replaces === undefined ? undefined : (await any().domains.load(state.replaces)).state;
      if (before && before.status !== 'deleted') continue;
      await any().commands.execute(new CompleteProvisioning(id, identity, contextAt(Date.now(), 'provisioning')));
    }
  };

  const interleave = async (): Promise<void> => {
    const name = `d${(names += 1)}.example.com`;
    zone.set(name, new Set());
    const beginning = beginnings[Math.floor(next() * beginnings.length)]!;
    const [a, b] = [`team_a${names}`, `team_b${names}`];
    const first = newId('mdom');
    const again = newId('mdom');
    await held(first, name, a, beginning);
    // What happens at the time at which the domain expires, if it was never verified.
    await one.commands.execute(
      new AnnounceExpiry(first, { expiresAt: contextAt(Date.now()).at }, contextAt(Date.now())),
    );
    const claim = await one.claims.open(newId('claim'), name, 'send_receive', b);
    recordsAt(name).add(b);
    const soon = (act: () => Promise<unknown>) => {
      const delayMs = next() * 6;
      return async () => {
        if (delayMs > 1) await sleep(delayMs);
        return outcome(act);
      };
    };
    const claimOnce = () => soon(() => any().claims.verify(claim.id, requestOf(b)));
    const check = (trigger: 'requested' | 'scheduled') =>
      soon(async () => {
        const cycle = trigger === 'scheduled' ? 3 : null;
        const command = new RecordCheck(first, { ...seen(name, a), trigger, cycle }, contextAt(Date.now()));
        await any().commands.execute(command);
      });
    const readd = soon(async () => {
      const data = { name, team: a, deadline: contextAt(Date.now() + day).at };
      const add = () => any().commands.execute(new AddDomain(again, data, contextAt(Date.now())));
      for (let tries = 1; tries <= 5; tries++) {
        await converge([first]);
        if ((await outcome(add)) === 'done') break;
        if (tries === 5) return;
      }
      counts.readded += 1;
    });
    const acts = [
      claimOnce(),
      ...(next() < 0.3 ? [claimOnce()] : []),
      ...(next() < 0.5 ? [check('requested')] : []),
      ...(next() < 0.3 ? [check('scheduled')] : []),
      ...(next() < 0.2 ? [soon(() => any().commands.execute(new RequestDeletion(first, contextAt(Date.now()))))] : []),
      ...(next() < 0.7 ? [soon(() => any().commands.execute(new ExpireDomain(first, contextAt(Date.now()))))] : []),
      ...(next() < 0.2 ? [soon(() => Promise.resolve(recordsAt(name).add(a)))] : []),
      ...(next() < 0.2 ? [soon(() => Promise.resolve(recordsAt(name).delete(a)))] : []),
      ...(next() < 0.3 ? [readd] : []),
      soon(() => converge([first, again, claim.domainId])),
    ];
    // One act of some interleavings is over before the others begin, so that each side wins on a machine of any speed.
    if (next() < 0.6) await acts.splice(Math.floor(next() * acts.length), 1)[0]!();
    await Promise.all(acts.map((act) => act()));
    // Everything that is under way ends, and the claim is verified once more, as its team would.
    for (let turn = 0; turn < 3; turn++) await converge([first, again, claim.domainId]);
    const claimed = await outcome(() => any().claims.verify(claim.id, requestOf(b)));
    for (let turn = 0; turn < 3; turn++) await converge([first, again, claim.domainId]);
    const holder = await one.readModel.holderOf(name);
    judge(name, beginning, await one.claims.find(claim.id, b), claimed, holder?.team.slice(0, 6));
  };

  const judge = (
    name: string,
    beginning: Beginning,
    { status, refusal }: Awaited<ReturnType<Claims['find']>>,
    claimed: string,
    holder: string | undefined,
  ) => {
    const say = (what: string) => faults.push(`${name} (${beginning}, ${status}, ${claimed}): ${what}`);
    // Team B has proved the name from the beginning, so somebody has it in the end.
    if (holder === undefined) say('nobody has it');
    if (status === 'succeeded' && holder !== 'team_b') say(`won by team_b, and held by ${holder}`);
    if (status === 'pending') say(`its record was not seen: ${refusal?.message}`);
    if (status === 'refused' && holder !== 'team_a') say(`refused, and held by ${holder}`);
    counts[status === 'succeeded' ? 'won' : 'refused'] += 1;
  };

  for (let left = interleavings; left > 0; left -= 100)
    await Promise.all(Array.from({ length: Math.min(left, 100) }, interleave));

  const log = new EventLog(one.pool);
  await judgeTheLog();
  // The seed in a failure reproduces the decisions; the order in which the database runs them can differ.
  expect({ seed, faults: faults.slice(0, 20) }).toEqual({ seed, faults: [] });
  console.log(JSON.stringify(counts));
  // Each side must win often; otherwise the race was not tested.
  for (const [what, count] of Object.entries(counts))
    expect(`${what} ${count > interleavings / 400}`).toBe(`${what} true`);
  expect((await compare(database.url, 'domains', () => undefined)).differences).toBe(0);
  const key = new SealingKey(generateKeyPairSync('ed25519').privateKey);
  const made = await new Seals(one.pool, log, key, 10_000).seal();
  const verified = await new Verification(one.pool, log, { trusted: trusting(key.publicKey), witness: made }).run();
  expect(verified).toMatchObject({ faults: [] });
  await log.close();
  console.log(JSON.stringify({ ...verified, faults: undefined }));

  /** Reads the whole log in its order, and judges what it says of each name. */
  async function judgeTheLog(): Promise<void> {
    const states = new Map<string, MailDomain>();
    const holders = new Map<string, Set<string>>();
    const released = new Map<string, string>();
    const added: { id: string; claim: string; replaces: string }[] = [];
    for (let after = 0; ;) {
      const { events } = await log.read({ after, limit: 1_000 });
      for (const recorded of events) {
        const { stream } = recorded;
        const event = domainEvent(recorded);
        const before = states.get(stream) ?? initialState;
        const say = (what: string) => faults.push(`${stream}: ${what}`);
        if (!sentenceOf(event, before)) say(`${event.type} has no sentence`);
        if (event.type === 'DomainReleased') {
          released.set(stream, event.data.claim);
          const { firstVerifiedAt, ownershipGoneSince } = before as Extract<MailDomain, { status: 'pending' }>;
          const goneFor = ownershipGoneSince ? Date.parse(event.at) - Date.parse(ownershipGoneSince) : 0;
          if (firstVerifiedAt !== undefined && goneFor < graceMs) say('was released while its team owned it');
        }
        const isPast = recorded.metadata.actor === 'test';
        if (event.type === 'DomainVerified' && !isPast && before.status === 'pending' && !before.firstVerifiedAt)
          counts.verifiedFirst += 1;
        if (event.type === 'DomainExpired') counts.expiredFirst += 1;
        if (event.type === 'DomainDeletionRequested') counts.deletedFirst += 1;
        if (event.type === 'DomainAdded') {
          const { name, claim, replaces } = event.data;
          const now = holders.get(name) ?? new Set();
          holders.set(name, now);
          if (claim !== undefined && replaces !== undefined) {
            // Both events are of one transaction, in either order.
            added.push({ id: stream, claim, replaces });
            now.delete(replaces);
            counts.taken += 1;
          }
          if (now.size > 0) say(`was added while ${[...now].join()} had ${name}`);
          now.add(stream);
        }
        const after = evolve(before, event);
        states.set(stream, after);
        const { name } = after as { name: string };
        if (['deleted', 'released', 'rolled_back'].includes(after.status)) holders.get(name)!.delete(stream);
        if (event.type === 'DomainProvisioned' && before.status === 'provisioning' && before.replaces !== undefined) {
          const replaced = states.get(before.replaces);
          if (replaced?.status !== 'deleted') say(`was provisioned while ${before.replaces} was ${replaced?.status}`);
        }
      }
      if (events.length === 0) break;
      after = events.at(-1)!.position;
    }
    for (const { id, claim, replaces } of added)
      if (released.get(replaces) !== claim) faults.push(`${id} replaces ${replaces}, which was not released to it`);
    if (released.size !== added.length) faults.push(`${released.size} were released, and ${added.length} replaced`);
  }
}, 1_800_000);
