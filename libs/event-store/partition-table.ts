import { copyRights, type Connection } from '@app/database';

/** Positions in a partition where nothing else is said: some gigabytes. */
export const partitionSize = 10_000_000;

/** A partition of the log: positions above `lower`, up to `upper`. */
export interface Partition {
  readonly number: number;
  readonly lower: bigint;
  readonly upper: bigint;
}

/** Gives the name of the table of a partition. */
export const partitionTable = (number: number): string => `events_${number}`;

/** Gives the statements that give a table of events, or a partition, what keeps events as they were appended. */
export const triggersOf = (table: string): string[] => [
  `CREATE TRIGGER events_are_facts BEFORE UPDATE OR DELETE OR TRUNCATE ON ${table}
   FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()`,
  `CREATE TRIGGER events_in_flight BEFORE INSERT ON ${table}
   FOR EACH STATEMENT EXECUTE FUNCTION mark_append_in_flight()`,
];

/**
 * Gives the statements that make a partition. They hold up no append and no reader: attaching a table that is not used
 * yet locks the log for other changes of its kind alone.
 */
export function stepsToMake({ number, lower, upper }: Partition): string[] {
  const table = partitionTable(number);
  return [
    `CREATE TABLE ${table} (LIKE events INCLUDING DEFAULTS INCLUDING STORAGE,
       CONSTRAINT ${table}_pkey PRIMARY KEY (position), CONSTRAINT ${table}_stream_version UNIQUE (stream, version))`,
    ...triggersOf(table),
    `ALTER TABLE events ATTACH PARTITION ${table} FOR VALUES FROM (${lower + 1n}) TO (${upper + 1n})`,
    `INSERT INTO event_partitions (number, lower, upper) VALUES (${number}, ${lower}, ${upper})`,
  ];
}

/**
 * Makes partitions until a position lies in one, each as large as the newest one; none where the log has none.
 */
export async function makeUpTo(client: Connection, position: bigint): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ number: number; lower: string; upper: string }>(
      'SELECT number, lower, upper FROM event_partitions ORDER BY number DESC LIMIT 1',
    );
    if (!rows[0]) return;
    const { number, lower, upper } = rows[0];
    const [from, to] = [BigInt(lower), BigInt(upper)];
    if (position <= to) return;
    await client.query(stepsToMake({ number: number + 1, lower: to, upper: to + to - from }).join(';\n'));
    await copyRights(client, partitionTable(number), partitionTable(number + 1));
  }
}

/** Makes and opens the partitions of a log that has no events, up to a position. */
export async function openEmptyUpTo(client: Connection, position: number): Promise<void> {
  await makeUpTo(client, BigInt(position));
  await client.query('UPDATE event_partitions SET is_open = true WHERE lower < $1', [position]);
}
