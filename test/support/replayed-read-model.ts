import { Client } from 'pg';
import { evolve, initialState, type DomainEvent, type MailDomain } from '@app/mail-domain';
import { domainRow, domainsProjection } from '@app/read-model';

interface StoredEvent {
  stream: string;
  version: number;
  type: string;
  data: unknown;
  time: Date;
}

type Row = Record<string, unknown>;

/** Folds every event of the log, and reads the live table: both by id, in the same form. */
export async function replayedAndLive(url: string): Promise<{ replayed: Row[]; live: Row[]; events: number }> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rows: found } = await client.query<{ events: string | null }>(`SELECT to_regclass('events') AS events`);
    if (!found[0]?.events) return { replayed: [], live: [], events: 0 };
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const { rows: events } = await client.query<StoredEvent>(
      'SELECT stream, version, type, data, time FROM events ORDER BY stream, version',
    );
    const { rows: live } = await client.query<Row>('SELECT * FROM domains');
    const states = new Map<string, { state: MailDomain; version: number; at: string }>();
    for (const { stream, version, type, data, time } of events) {
      const before = states.get(stream) ?? { state: initialState, version: 0, at: '' };
      if (version !== before.version + 1) throw new Error(`${stream} has no version ${before.version + 1}`);
      const at = time.toISOString();
      const event = { type, domainId: stream, at, data } as DomainEvent;
      states.set(stream, { state: evolve(before.state, event), version, at });
    }
    const replayed = [...states.values()].map(({ state, version, at }) => domainRow(state, version, at));
    return { replayed: byId(replayed), live: byId(live), events: events.length };
  } finally {
    await client.end();
  }
}

/** Times as ISO 8601, columns in the order of the table. */
const byId = (rows: readonly Row[]): Row[] =>
  rows
    .map((row) => {
      const plain = JSON.parse(JSON.stringify(row)) as Row;
      return Object.fromEntries(Object.keys(domainsProjection.columns).map((column) => [column, plain[column]]));
    })
    .sort((a, b) => (String(a.id) < String(b.id) ? -1 : 1));
