import { setTimeout as delay } from 'node:timers/promises';
import type { Pool } from 'pg';
import { violated } from '../support/invariants';
import { scenarios, Stage, type ScenarioName } from './scenarios';
import { patienceMs, until } from './until';
import type { Fate, Passing } from './wire';
import { apps, longDelayMs, type App, type World } from './world';

/**
 * What may happen at a message. `cut`: the connection ends. `die`: the process does. `delay`: the message comes later
 * than the one who waits for it bears. `before` and `after`: whether the message still arrives.
 */
export const faults = ['cut-before', 'cut-after', 'die-before', 'die-after', 'delay'] as const;
export type Fault = (typeof faults)[number];

/** One run: a scenario, and a fault at the `nth` message of a kind on a wire. */
export interface Case {
  readonly scenario: ScenarioName;
  /** The wire, the side that sends it, and its kind. */
  readonly message: string;
  readonly nth: number;
  readonly fault: Fault;
}

export const textOf = ({ scenario, message, nth, fault }: Case): string => [scenario, message, nth, fault].join(' | ');

/** @throws {Error} when the text is none of `textOf`. */
export function caseOf(text: string): Case {
  const [scenario, message, nth, fault] = text.split(' | ');
  if (!scenario || !Object.hasOwn(scenarios, scenario) || !message || !faults.includes(fault as Fault))
    throw new Error(`"${text}" is no case: scenario | wire side kind | number | fault`);
  return { scenario: scenario as ScenarioName, message, nth: Number(nth), fault: fault as Fault };
}

const keyOf = ({ wire, from, kind }: Passing): string => `${wire} ${from} ${kind}`;
const appOf = (wire: string): App => apps.find((app) => wire.startsWith(`${app}-`))!;

/** The messages of a scenario in which nothing breaks, by their kinds. */
export type Counts = ReadonlyMap<string, number>;

/** What has come of a run. */
export interface Outcome {
  /** Whether the message came, so that the fault happened. */
  readonly isReached: boolean;
  /** What was not as it must be; nothing where all was well. */
  readonly violations: readonly string[];
  readonly counts: Counts;
}

/** How many messages of a kind are cases that comes at all times, such as of a poll: the others find nothing new. */
const mostOfPolls = 2;

/**
 * Gives all cases of a scenario: each fault at each message that came in every one of the runs without a fault. A
 * process that dies at a message that it gets has the same past whether that message still arrives or not.
 *
 * @param atRest the messages of an installation in which nothing is done.
 */
export function casesOf(scenario: ScenarioName, runs: readonly Counts[], atRest: Counts): Case[] {
  const [first, ...others] = runs;
  return [...first!].flatMap(([message, count]) => {
    const most = atRest.has(message) ? mostOfPolls : Infinity;
    const nths = Math.min(most, count, ...others.map((run) => run.get(message) ?? 0));
    const [wire = '', from = ''] = message.split(' ');
    const isSent = (from === 'client') !== (wire === 'gateway-client');
    return Array.from({ length: nths }, (_, i) =>
      faults
        .filter((fault) => isSent || fault !== 'die-after')
        .map((fault) => ({ scenario, message, nth: i + 1, fault })),
    ).flat();
  });
}

/** The messages of PostgreSQL at which a statement takes effect or is answered, by the first words of their kinds. */
const atStatements = ['StartupMessage', 'Query', 'Sync', 'ReadyForQuery', 'NotificationResponse', 'Terminate'];

/**
 * Whether a fault at a message leaves a state that no fault at another message of the same statement leaves. What comes
 * before the `Sync` of a statement has no effect without it, and an app does nothing before the end of an answer.
 */
export function isDistinct({ message }: Pick<Case, 'message'>): boolean {
  const [wire = '', , kind = ''] = message.split(' ');
  return !/-(postgres|mail-server)$/.test(wire) || atStatements.includes(kind);
}

/** Says what an installation still has to do; nothing where there is nothing. */
export async function busyOf(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ busy: string | null }>(`
    SELECT concat_ws('; ',
      (SELECT string_agg(list || ' ' || key || ' ' || coalesce(last_error, ''), ', ') FROM tasks),
      (SELECT string_agg(id || ' ' || status, ', ') FROM domains
        WHERE status IN ('provisioning', 'rolling_back', 'deleting', 'released')),
      (SELECT 'deliveries' FROM webhook_deliveries WHERE status = 'waiting' LIMIT 1),
      (SELECT 'consumers' WHERE 4 <> (SELECT count(*) FROM checkpoints
        WHERE position >= (SELECT coalesce(max(position), 0) FROM events)))) AS busy`);
  return rows[0]!.busy ?? '';
}

/**
 * Waits until an installation is at rest: every app runs, nothing is to be done, and every consumer knows all events. A
 * process that dies meanwhile puts tasks on its lists when it starts again.
 */
export async function rest(world: World, busyNow = () => busyOf(world.pool)): Promise<void> {
  let busy = '';
  await until('the installation is at rest', async () => {
    await world.allRun();
    const { deaths } = world;
    busy = await busyNow();
    return busy === '' && world.deaths === deaths;
  }).catch((error: Error) => {
    throw new Error(`${error.message}: ${busy}`);
  });
}

const headOf = async (pool: Pool): Promise<string> =>
  (await pool.query<{ head: string }>('SELECT coalesce(max(position), 0) AS head FROM events')).rows[0]!.head;

/**
 * Finds what no single fault may lead to: that the product gives up because of what a counterpart has said, where none
 * has refused anything. A step that is repeated has to find its own work.
 */
async function failures(world: World, stage: Stage, after: string): Promise<string[]> {
  const { rows } = await world.pool.query<{ stream: string; type: string; data: object }>(
    `SELECT stream, type, data FROM events WHERE position > $1
       AND (type IN ('IdentityRepairFailed', 'IdentityMoveFailed')
         OR type = 'ProvisioningFailed' AND data ->> 'kind' <> 'deadline' AND NOT $2)`,
    [after, stage.isRefused],
  );
  return rows.map(
    ({ stream, type, data }) => `${type} of ${stream}, which nobody has refused: ${JSON.stringify(data)}`,
  );
}

/** Runs a case, or the scenario alone, on a world that is at rest, and looks at all that must hold afterwards. */
export async function run(world: World, scenario: ScenarioName, wanted?: Case): Promise<Outcome> {
  const counts = new Map<string, number>();
  const defectsBefore = world.defects.length;
  const stage = new Stage(world);
  let isReached = false;
  /** When a message that comes late has come, by `performance.now()`. */
  let allHaveCome = 0;
  const judge = (message: Passing): Fate => {
    const key = keyOf(message);
    const nth = (counts.get(key) ?? 0) + 1;
    counts.set(key, nth);
    if (isReached || !wanted || key !== wanted.message || nth !== wanted.nth) return 'pass';
    isReached = true;
    world.faults++;
    const app = appOf(message.wire);
    switch (wanted.fault) {
      case 'delay':
        allHaveCome = performance.now() + longDelayMs;
        return { delayMs: longDelayMs };
      case 'cut-before':
        return { kill: 'before' };
      case 'cut-after':
        return { kill: 'after' };
      case 'die-before':
        return { kill: 'before', onFault: () => world.killApp(app) };
      case 'die-after':
        return { kill: 'after', onFault: () => world.killApp(app) };
    }
  };
  const over = new AbortController();
  const violations: string[] = [];
  try {
    const act = await scenarios[scenario](stage);
    await rest(world);
    const begun = await headOf(world.pool);
    world.judge = judge;
    const passing = passTime(world, () => isReached, over.signal);
    await act();
    await rest(world);
    // Nothing else may wait for the late message, such as for one of a poll, and a transaction is open until it comes.
    const isLateMs = allHaveCome - performance.now();
    if (isLateMs > 0) {
      // What it sets off takes a moment.
      await delay(isLateMs + 500);
      await rest(world);
    }
    world.judge = () => 'pass';
    over.abort();
    await passing;
    violations.push(
      ...(await failures(world, stage, begun)),
      ...(await violated({
        databaseUrl: world.database.url,
        mailServerUrl: world.mailServer.url,
        identities: world.identities(),
        mails: world.mails(),
        received: world.endpoints.received,
        acknowledged: stage.acknowledged,
        // Runs before this one on the same world may have had their repetition too, of a message of their own.
        repeats: Math.min(1, world.faults),
      })),
    );
  } catch (error) {
    violations.push((error as Error).stack ?? String(error));
  } finally {
    over.abort();
    world.judge = () => 'pass';
  }
  violations.push(...world.defects.slice(defectsBefore));
  return { isReached, violations, counts };
}

/** Lets time pass every second, once something has happened. What then goes on too long is noticed by whoever waits. */
async function passTime(world: World, hasHappened: () => boolean, signal: AbortSignal): Promise<void> {
  for (const giveUpAt = performance.now() + 2 * patienceMs; performance.now() < giveUpAt && !signal.aborted;) {
    await delay(1_000, undefined, { signal }).catch(() => undefined);
    if (hasHappened() && !signal.aborted) await world.passTime().catch(() => undefined);
  }
}
