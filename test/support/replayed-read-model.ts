import type { Recorded } from '@app/decider';
import { domainEvent, evolve, initialState, type MailDomain } from '@app/mail-domain';
import { openClient, openPool } from '@app/database';
import type { InlineProjection, ProjectedRow } from '@app/event-store';
import { evolveMailbox, mailboxEvent, noMailbox, type Mailbox, type OpenSealed } from '@app/mailbox';
import { domainRow, domainsProjection, mailboxesProjection, mailboxRow, quotaKinds } from '@app/read-model';
import { mailboxKeysIn } from './mailbox-keys';

type StoredEvent = Omit<Recorded, 'time'> & { readonly version: number; readonly time: Date };

type Row = Record<string, unknown>;

/** Folds the streams with a prefix into the rows of a table. */
interface Folded<State> {
  readonly prefix: string;
  readonly projection: InlineProjection;
  readonly initialState: State;
  readonly evolve: (state: State, event: Recorded, open: OpenSealed) => State;
  readonly row: (state: State, version: number, at: string) => ProjectedRow;
}

const domains: Folded<MailDomain> = {
  prefix: 'mdom_',
  projection: domainsProjection,
  initialState,
  row: domainRow,
  evolve: (state, event) => evolve(state, domainEvent(event)),
};
const mailboxes: Folded<Mailbox> = {
  prefix: 'mbx_',
  projection: mailboxesProjection,
  initialState: noMailbox,
  row: mailboxRow,
  evolve: (state, event, open) => evolveMailbox(state, mailboxEvent(event, open)),
};

/** Folds every event of the log, and reads the live tables. Both have the same form, sorted by id. */
export async function replayedAndLive(url: string): Promise<{ replayed: Row[]; live: Row[]; events: number }> {
  const client = await openClient({ connectionString: url });
  try {
    const { rows: found } = await client.query<{ events: string | null }>(`SELECT to_regclass('events') AS events`);
    if (!found[0]?.events) return { replayed: [], live: [], events: 0 };
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const { rows: events } = await client.query<StoredEvent>(
      'SELECT stream, version, type, schema_version AS "schemaVersion", data, time FROM events ORDER BY stream, version',
    );
    const open = await openerOf(url, events);
    const rowsOf = async <State>(model: Folded<State>) => {
      const { rows } = await client.query<Row>(`SELECT * FROM ${model.projection.table}`);
      return { replayed: byId(fold(events, model, open), model.projection), live: byId(rows, model.projection) };
    };
    const [ofDomains, ofMailboxes] = [await rowsOf(domains), await rowsOf(mailboxes)];
    return {
      replayed: [...ofDomains.replayed, ...ofMailboxes.replayed],
      live: [...ofDomains.live, ...ofMailboxes.live],
      events: events.length,
    };
  } finally {
    await client.end();
  }
}

/**
 * Gives how many rows each team has that hold a place: as they are counted for its quotas, and as the tables have them.
 * `all` is what all teams have together. The identities of a shard of SES are counted in the same way.
 */
export async function countedAndHeld(url: string): Promise<{ counted: Row[]; held: Row[] }> {
  const client = await openClient({ connectionString: url });
  try {
    const held = quotaKinds.map(
      (kind) => `SELECT '${kind}' AS kind, team, count(*)::integer AS used FROM ${kind}
        WHERE status NOT IN ('rolled_back', 'deleted') GROUP BY team`,
    );
    held.push(`SELECT 'identities', shard, count(*)::integer
        FROM domains, unnest(ARRAY[ses_shard, ses_other_shard]) AS shard
        WHERE shard IS NOT NULL AND status NOT IN ('rolled_back', 'deleted') GROUP BY shard`);
    // One statement sees one moment.
    const { rows } = await client.query<{ counted: Row[] | null; held: Row[] | null }>(
      `WITH held AS (${held.join(' UNION ALL ')}), counted AS (
        SELECT kind, team, used FROM team_quotas WHERE used <> 0
        UNION ALL SELECT kind, 'all', used FROM common_quotas WHERE used <> 0
        UNION ALL SELECT 'identities', name, identities FROM ses_shards WHERE identities <> 0
      )
      SELECT (SELECT json_agg(counted ORDER BY kind, team) FROM counted) AS counted,
        (SELECT json_agg(held ORDER BY kind, team) FROM (
          SELECT * FROM held UNION ALL SELECT kind, 'all', sum(used) FROM held WHERE kind = 'domains' GROUP BY kind
        ) AS held) AS held`,
    );
    return { counted: rows[0]!.counted ?? [], held: rows[0]!.held ?? [] };
  } finally {
    await client.end();
  }
}

async function openerOf(url: string, events: readonly StoredEvent[]): Promise<OpenSealed> {
  const pool = openPool(url, 1);
  try {
    return await mailboxKeysIn(pool).openerOf(events);
  } finally {
    await pool.end();
  }
}

function fold<State>(
  events: readonly StoredEvent[],
  { prefix, initialState, evolve, row }: Folded<State>,
  open: OpenSealed,
): Row[] {
  const states = new Map<string, { state: State; version: number; at: string }>();
  for (const event of events) {
    const { stream, version, time } = event;
    if (!stream.startsWith(prefix)) continue;
    const before = states.get(stream) ?? { state: initialState, version: 0, at: '' };
    if (version !== before.version + 1) throw new Error(`${stream} has no version ${before.version + 1}`);
    const at = time.toISOString();
    states.set(stream, { state: evolve(before.state, { ...event, time: at }, open), version, at });
  }
  return [...states.values()].map(({ state, version, at }) => row(state, version, at));
}

/** Converts times to ISO 8601, and orders the columns as in the table. */
const byId = (rows: readonly Row[], { columns }: InlineProjection): Row[] =>
  rows
    .map((row) => {
      const plain = JSON.parse(JSON.stringify(row)) as Row;
      return Object.fromEntries(Object.keys(columns).map((column) => [column, plain[column]]));
    })
    .sort((a, b) => (String(a.id) < String(b.id) ? -1 : 1));
