/** Says of each series of a soak what it may do: stay, or grow by the same for each event. Pure. */
import type { Sample } from './samples';
import { costVerdictOf, verdictOf, type Allowance, type Life, type Verdict } from './verdict';

export interface JudgedSeries extends Verdict {
  readonly name: string;
  /** What each addition is, of a series that is meant to grow. */
  readonly per?: string;
}

/**
 * The tables that are meant to grow, and why. Every other one has to stay as it is while what lives stays as many, one
 * that a later release adds too.
 */
export const growingTables: Readonly<Record<string, string>> = {
  events: 'the log: it is never changed; `sendmux events archive` moves old partitions out of the database',
  domains: 'the row of a domain that has ended stays, as its stream does',
  mailboxes: 'the row of a mailbox that was deleted stays, as its stream does',
  mailbox_keys: 'the key of a mailbox opens its events, until it is erased',
  deliveries: 'who was told of which episode, so that nobody is told twice',
  settled_episodes: 'the same, of the whole episode',
  audit_seals: 'a seal of each part of the log',
  api_keys: 'a key that was revoked is still listed',
};

/** The same of the tables that the mail server reads. */
const growingTablesOfMail: Readonly<Record<string, string>> = {
  mail_mailboxes:
    'a mailbox that was deleted keeps its row, so that an older version that comes late cannot restore it',
};

/** The counters by which series that are meant to grow are judged. */
const events = 'service table events: rows';
export const requests = 'the soak: requests';

type Rule =
  /** It has to stay, for as long as a process lives or a table is there. */
  | ({ readonly is: 'level' } & Allowance)
  | ({ readonly is: 'cost'; readonly per: typeof events | typeof requests } & Allowance)
  /** It is a tool of the soak, or what a cost is counted by. */
  | { readonly is: 'shown' };

const level = (least: number, share: number): Rule => ({ is: 'level', least, share });
const cost = (per: typeof events | typeof requests, least: number, share: number): Rule => ({
  is: 'cost',
  per,
  least,
  share,
});
const shown: Rule = { is: 'shown' };

const rules: readonly (readonly [RegExp, Rule])[] = [
  [/^(the soak|sandbox): /, shown],
  [/^service table events: rows$/, shown],
  [new RegExp(`^service table (${Object.keys(growingTables).join('|')}): rows$`), cost(events, 40, 0.5)],
  [new RegExp(`^service table (${Object.keys(growingTables).join('|')}): KiB$`), cost(events, 512, 0.5)],
  [new RegExp(`^mail table (${Object.keys(growingTablesOfMail).join('|')}): rows$`), cost(events, 40, 0.5)],
  [new RegExp(`^mail table (${Object.keys(growingTablesOfMail).join('|')}): KiB$`), cost(events, 512, 0.5)],
  [/ table \w+: rows$/, level(25, 0.25)],
  [/ table \w+: dead rows$/, level(1_500, 1)],
  [/ table \w+: KiB$/, level(768, 0.35)],
  [/: KiB of log$/, cost(requests, 512, 0.5)],
  // It keeps up to 8 MiB of the bodies of messages, which takes an hour and more to fill.
  [/^webhooks: heap MiB$/, level(10, 0.04)],
  [/: heap MiB$/, level(1.5, 0.04)],
  [/: rss MiB$/, level(24, 0.15)],
  [/: CPU ms\/s$/, level(20, 0.4)],
  [/: (open files|sockets)$/, level(5, 0.15)],
  [/: resources$/, level(8, 0.2)],
  [/: event-loop lag p99 ms$/, level(50, 1)],
  // Each status of each operation is a line from its first time on.
  [/: lines of metrics$/, level(40, 0.25)],
  [/^postgres: connections of /, level(3, 0.2)],
  [/^postgres: oldest transaction s$/, level(5, 0)],
  [/^postgres: (locks waited for|advisory locks)$/, level(3, 0.2)],
  [/^postgres: waiting deliveries$/, level(60, 0.5)],
  [/^postgres: /, level(12, 0.5)],
  [/^data directory: files$/, level(4, 0)],
  [/^data directory: KiB$/, level(512, 0.3)],
];

/** @throws {Error} for a series that nobody has said anything about. */
export function ruleOf(name: string): Rule {
  const found = rules.find(([form]) => form.test(name));
  if (!found) throw new Error(`Nothing is said of the series "${name}".`);
  return found[1];
}

/** Gives the name of the app whose process a series is about; undefined for what is not of a process. */
const appOf = (name: string): string | undefined =>
  /^(?!the soak|service|mail|postgres|data)([a-z-]+): (?!KiB of log)/.exec(name)?.[1];

/**
 * Judges all series of a run.
 *
 * @param warmUp seconds from the start of a process, or of the run, that do not count.
 */
export function judged(samples: readonly Sample[], warmUp: number): JudgedSeries[] {
  const names = new Set(samples.flatMap(({ values }) => Object.keys(values)));
  return [...names].sort().flatMap((name): JudgedSeries[] => {
    const rule = ruleOf(name);
    const found = samples.filter(({ values }) => values[name] !== undefined);
    if (rule.is === 'shown') return [];
    if (rule.is === 'cost') {
      const begun = samples[0]!.at;
      const life = found
        .filter(({ at, values }) => at >= begun + warmUp && values[rule.per] !== undefined)
        .map(({ values }) => ({ at: values[rule.per]!, value: values[name]! }));
      const per = rule.per === events ? 'event' : 'request';
      return [{ name, per, ...costVerdictOf(life, rule) }];
    }
    const app = appOf(name);
    const lives = new Map<number, { at: number; value: number }[]>();
    for (const { at, pids, values } of found) {
      const of = app === undefined ? 0 : (pids[app] ?? 0);
      lives.set(of, [...(lives.get(of) ?? []), { at, value: values[name]! }]);
    }
    return [{ name, ...verdictOf([...lives.values()] satisfies Life[], rule, warmUp) }];
  });
}
