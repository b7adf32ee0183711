import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { Verification } from '@app/audit';
import type { Recorded } from '@app/decider';
import { EventLog } from '@app/event-store';
import { domainEvent, evolve, initialState, isLive, type MailDomain } from '@app/mail-domain';
import { announcedEvents, WebhookMessages } from '@app/presentation';
import { openPool } from '@app/database';
import { sharedDomainId } from '@app/mail-server';
import type { Pool } from 'pg';
import { mailboxKeysIn } from './mailbox-keys';
import { countedAndHeld, replayedAndLive } from './replayed-read-model';
import { checkWebhooks, type ReceivedMessage } from './webhook-checker';

/** An identity as SES has it. */
export interface ObservedIdentity {
  readonly name: string;
  readonly region?: string;
  readonly tags: readonly { readonly Key: string; readonly Value: string }[];
  readonly tokens: readonly string[];
}

/** A mail as its recipients have got it. */
export interface ObservedMail {
  readonly to: readonly string[];
  readonly subject: string;
  readonly messageId: string;
}

/** An installation at rest, as all parties see it. */
export interface Observed {
  readonly databaseUrl: string;
  readonly mailServerUrl: string;
  readonly identities: readonly ObservedIdentity[];
  readonly mails: readonly ObservedMail[];
  /** What each endpoint of customers has got, by the id of its webhook. */
  readonly received: ReadonlyMap<string, readonly ReceivedMessage[]>;
  /** What clients have had an answer for: the id of a domain, and the type of an event that it must have. */
  readonly acknowledged: readonly { readonly domain: string; readonly type: string }[];
  /** Processes that may have died between a mail or a webhook and its record: each may repeat one. */
  readonly repeats: number;
}

interface StoredEvent {
  readonly stream: string;
  readonly version: number;
  readonly position: number;
  readonly type: string;
  readonly schemaVersion: number;
  readonly data: Recorded['data'];
  readonly time: Date;
}

/** What the invariants read, once for all of them. */
interface Facts extends Observed {
  readonly pool: Pool;
  readonly mailServer: Pool;
  readonly events: readonly StoredEvent[];
  /** The domains as their streams say, by their ids. */
  readonly domains: ReadonlyMap<string, MailDomain>;
}

/** The events after which a domain is no longer failed. */
const endsOfFailures: ReadonlySet<string> = new Set([
  'DomainVerified',
  'DomainDeletionRequested',
  'DomainReleased',
  'DomainExpired',
  'ReceivingEnabled',
]);

type Violations = string[];
type Invariant = (facts: Facts) => Violations | Promise<Violations>;

/** Gives what is on one of two lists alone, in whatever order they are. */
function differences<T>(where: string, there: readonly T[], expected: readonly T[]): Violations {
  const without = (some: readonly T[], others: readonly T[]) =>
    some.filter((one) => !others.some((other) => isDeepStrictEqual(one, other))).map((one) => JSON.stringify(one));
  const twice = there.filter((one, i) => there.findIndex((other) => isDeepStrictEqual(one, other)) < i);
  return [
    ...without(there, expected).map((one) => `${where}: has ${one}`),
    ...without(expected, there).map((one) => `${where}: lacks ${one}`),
    ...twice.map((one) => `${where}: has twice ${JSON.stringify(one)}`),
  ];
}

const liveDomains = ({ domains }: Facts) => [...domains.values()].filter(isLive);

interface OpenTransaction {
  readonly id: string;
  /** What it has done last. */
  readonly query: string;
}
const openTransactions = `
  SELECT pid || ' ' || xact_start AS id, query FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND state LIKE 'idle in transaction%' AND state_change < now() - interval '1 s'`;

/** What holds whenever an installation is at rest, by name. `docs/invariants.md` explains each. */
export const invariants: Readonly<Record<string, Invariant>> = {
  'log-as-recorded': async ({ pool }) => {
    const log = new EventLog(pool);
    const { faults } = await new Verification(pool, log, { trusted: new Map() }).run();
    await log.close();
    return faults.filter(({ seal }) => seal === undefined).map((fault) => JSON.stringify(fault));
  },

  'versions-without-gaps': ({ events }) => {
    const versions = new Map<string, number>();
    return events.flatMap(({ stream, version }) => {
      const expected = (versions.get(stream) ?? 0) + 1;
      versions.set(stream, version);
      return version === expected ? [] : [`${stream} has version ${version} where ${expected} should be`];
    });
  },

  'read-models-equal-the-log': async ({ databaseUrl }) => {
    const { replayed, live } = await replayedAndLive(databaseUrl);
    return differences('the rows', live, replayed);
  },

  'quotas-count-what-is-held': async ({ databaseUrl }) => {
    const { counted, held } = await countedAndHeld(databaseUrl);
    return differences('the places that are counted', counted, held);
  },

  'acknowledged-is-recorded': ({ acknowledged, events }) =>
    acknowledged
      .filter(({ domain, type }) => !events.some((event) => event.stream === domain && event.type === type))
      .map(({ domain, type }) => `${domain} was answered as if ${type} had happened`),

  'nothing-half-done': ({ domains }) =>
    [...domains].flatMap(([id, state]) => {
      if (!isLive(state)) return ['rolled_back', 'deleted'].includes(state.status) ? [] : [`${id} is ${state.status}`];
      return state.inRepair || state.move ? [`${id} is ${state.inRepair ? 'in repair' : state.move!.step}`] : [];
    }),

  'one-holder-of-a-name': (facts) => {
    const names = liveDomains(facts).map(({ name }) => name);
    return names.filter((name, i) => names.indexOf(name) !== i).map((name) => `${name} lives twice`);
  },

  'released-is-replaced': ({ events }) => {
    const replaced = new Set(
      events.filter(({ type }) => type === 'DomainAdded').map(({ data }) => (data as { replaces?: string }).replaces),
    );
    return events
      .filter(({ type, stream }) => type === 'DomainReleased' && !replaced.has(stream))
      .map(({ stream }) => `${stream} was released, and no domain was added in its place`);
  },

  'mail-server-equals-the-log': async (facts) => {
    const { rows } = await facts.mailServer.query<{ domain: string; id: string }>(
      'SELECT domain, domain_id AS id FROM mail_domains WHERE receives AND domain_id <> $1',
      [sharedDomainId],
    );
    const wanted = liveDomains(facts)
      .filter(({ mode }) => mode !== 'send_only')
      .map(({ name: domain, id }) => ({ domain, id }));
    return differences('the mail server', rows, wanted);
  },

  'ses-equals-the-log': (facts) => {
    const there = facts.identities.map(({ name, region, tags, tokens }) => ({
      name,
      region,
      id: tags.find(({ Key }) => Key === 'sendmux:domain-id')?.Value,
      tokens: [...tokens].sort(),
    }));
    const wanted = liveDomains(facts).map(({ name, sesRegion: region, id, dkimTokens }) => ({
      name,
      region,
      id,
      tokens: [...dkimTokens].sort(),
    }));
    return differences<unknown>('SES', there, wanted);
  },

  'both-or-neither': async (facts) => {
    const { rows } = await facts.mailServer.query<{ domain: string }>(
      'SELECT domain FROM mail_domains WHERE receives AND domain_id <> $1',
      [sharedDomainId],
    );
    const mailServer = new Set(rows.map(({ domain }) => domain));
    const ses = new Set(facts.identities.map(({ name }) => name));
    const sendOnly = new Set(liveDomains(facts).flatMap(({ name, mode }) => (mode === 'send_only' ? [name] : [])));
    return [
      ...[...mailServer].filter((name) => !ses.has(name)).map((name) => `the mail server alone has ${name}`),
      ...[...ses].filter((name) => !mailServer.has(name) && !sendOnly.has(name)).map((name) => `SES alone has ${name}`),
    ];
  },

  'no-task-is-left': async ({ pool }) => {
    const { rows } = await pool.query<{ list: string; key: string; error: string | null }>(
      'SELECT list, key, last_error AS error FROM tasks',
    );
    return rows.map(({ list, key, error }) => `${list} has ${key} (${error ?? 'no error'})`);
  },

  'consumers-have-caught-up': async ({ pool, events }) => {
    const head = Math.max(0, ...events.map(({ position }) => position));
    const { rows } = await pool.query<{ name: string; position: number }>(
      'SELECT name, position::float8 AS position FROM checkpoints WHERE position < $1',
      [head],
    );
    return rows.map(({ name, position }) => `${name} is at ${position} of ${head}`);
  },

  'nothing-is-parked': async ({ pool }) => {
    const { rows } = await pool.query<{ consumer_group: string; type: string; error: string }>(
      'SELECT consumer_group, type, error FROM parked_messages',
    );
    return rows.map(({ consumer_group, type, error }) => `${consumer_group} has parked ${type}: ${error}`);
  },

  'no-idempotency-key-is-held': async ({ pool }) => {
    const { rows } = await pool.query<{ key: string }>(
      'SELECT key FROM idempotency_keys WHERE status IS NULL AND claimed_until > now()',
    );
    return rows.map(({ key }) => `a request with the key "${key}" is still waited for`);
  },

  'no-transaction-is-open': async ({ pool, mailServer }) => {
    const open = async () => {
      const found = await Promise.all([pool, mailServer].map((each) => each.query<OpenTransaction>(openTransactions)));
      return new Map(found.flatMap(({ rows }) => rows.map(({ id, query }) => [id, query])));
    };
    // One that is only slow ends: what lives on this machine may stand still for a second.
    let left = await open();
    for (let tries = 0; left.size > 0 && tries < 12; tries++) {
      await delay(250);
      const now = await open();
      left = new Map([...left].filter(([id]) => now.has(id)));
    }
    return [...left.values()].map((query) => `a transaction is open after ${query}`);
  },

  'owners-are-told-once': async ({ pool, mails, events, domains, repeats }) => {
    const { rows: owners } = await pool.query<{ team: string; email: string }>('SELECT team, email FROM owners');
    const { rows: notTold } = await pool.query<{ episode: string; at: Date }>(
      `SELECT episode, at FROM settled_episodes WHERE outcome = 'superseded'`,
    );
    const superseded = new Map(notTold.map(({ episode, at }) => [episode, at]));
    /** Whether nobody was told, or not all were, since the failure had ended before they could be. */
    const isOver = ({ stream, version, data }: StoredEvent) => {
      const settledAt = superseded.get(`${stream}/${(data as { episode?: number }).episode}`);
      const hasEnded = (later: StoredEvent) =>
        later.stream === stream &&
        later.version > version &&
        endsOfFailures.has(later.type) &&
        later.time <= settledAt!;
      return settledAt !== undefined && events.some(hasEnded);
    };
    const violations: Violations = [];
    for (const [type, words] of [
      ['VerificationFailed', 'is no longer verified'],
      ['DomainReleased', 'is another team’s now'],
    ] as const) {
      const causes = new Map<string, number>();
      /** Those that need not be told, where it was over before. */
      const optional = new Map<string, number>();
      for (const event of events.filter((each) => each.type === type)) {
        const state = domains.get(event.stream)!;
        if (state.status === 'absent') continue;
        for (const { email } of owners.filter(({ team }) => team === state.team)) {
          const key = `${email}: ${state.name} ${words}`;
          causes.set(key, (causes.get(key) ?? 0) + 1);
          if (isOver(event)) optional.set(key, (optional.get(key) ?? 0) + 1);
        }
      }
      const told = new Map<string, string[]>();
      for (const { to, subject, messageId } of mails.filter(({ subject }) => subject.includes(words)))
        for (const address of to) {
          const key = `${address}: ${subject.slice(0, subject.indexOf(words))}${words}`;
          told.set(key, [...(told.get(key) ?? []), messageId]);
        }
      for (const key of new Set([...causes.keys(), ...told.keys()])) {
        const [wanted, ids] = [causes.get(key) ?? 0, told.get(key) ?? []];
        const different = new Set(ids).size;
        const least = wanted - (optional.get(key) ?? 0);
        if (different < least || different > wanted)
          violations.push(`${key}: ${different} mails, and should be ${wanted}`);
        else if (ids.length > different + repeats) violations.push(`${key}: sent ${ids.length} times`);
      }
    }
    return violations;
  },

  'endpoints-get-each-message': async ({ pool, received, events, repeats }) => {
    const { rows: webhooks } = await pool.query<{ id: string; team: string; from: number }>(
      'SELECT id, team, from_position::float8 AS from FROM webhooks',
    );
    const { rows: teams } = await pool.query<{ id: string; team: string }>(
      'SELECT id, team FROM domains UNION ALL SELECT id, team FROM mailboxes',
    );
    const teamOf = new Map(teams.map(({ id, team }) => [id, team]));
    const messages = new WebhookMessages(pool, mailboxKeysIn(pool));
    const announced = events.filter(({ type }) => (announcedEvents as readonly string[]).includes(type));
    const types = await Promise.all(announced.map((event) => messages.typeOf(event as never)));
    const violations: Violations = [];
    for (const { id, team, from } of webhooks) {
      const expected = announced
        .filter(({ stream, position }, i) => types[i] && position > from && teamOf.get(stream) === team)
        .map(({ stream, version }) => ({ id: `${stream}/${version}`, subject: stream, version }));
      const got = received.get(id) ?? [];
      for (const [fault, ids] of Object.entries(checkWebhooks(expected, got)) as [string, readonly string[]][])
        if (ids.length > 0) violations.push(`${id}: ${fault} ${ids.join(', ')}`);
      if (got.length > expected.length + repeats)
        violations.push(`${id} has got ${got.length} messages of ${expected.length}`);
    }
    return violations;
  },
};

/** Gives what is violated, each with the name of its invariant; nothing where all hold. */
export async function violated(observed: Observed): Promise<string[]> {
  const pool = openPool(observed.databaseUrl, 2);
  const mailServer = openPool(observed.mailServerUrl, 1);
  try {
    const { rows: events } = await pool.query<StoredEvent>(
      `SELECT stream, version, position::float8 AS position, type, schema_version AS "schemaVersion", data, time
       FROM events ORDER BY stream, version`,
    );
    const domains = new Map<string, MailDomain>();
    const found: string[] = [];
    for (const event of events.filter(({ stream }) => stream.startsWith('mdom_')))
      try {
        const before = domains.get(event.stream) ?? initialState;
        domains.set(event.stream, evolve(before, domainEvent({ ...event, time: event.time.toISOString() })));
      } catch (error) {
        found.push(`versions-without-gaps: ${(error as Error).message}`);
      }
    const facts: Facts = { ...observed, pool, mailServer, events, domains };
    for (const [name, holds] of Object.entries(invariants)) {
      // An invariant that cannot read the state, such as a log with a gap, is violated as well.
      const violations = await Promise.resolve()
        .then(() => holds(facts))
        .catch((error: Error) => [error.message]);
      found.push(...violations.map((violation) => `${name}: ${violation}`));
    }
    return found;
  } finally {
    await pool.end();
    await mailServer.end();
  }
}
