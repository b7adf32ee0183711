/** High 16 bits of the advisory locks that appends in flight hold; the low 48 bits are a position. */
export const inFlightTag = 0x5e4d;

/**
 * Query that gives `first`: the smallest position that an append in flight has put into its lock before it drew its
 * own; null when no append is in flight. `standby` tells whether the server has only the locks of its readers.
 */
export const firstInFlightSql = `SELECT min(((classid::int8 << 32) | objid::int8) & ((1::int8 << 48) - 1))::float8 AS first,
          pg_is_in_recovery() AS standby
        FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND classid::int8 >> 16 = ${inFlightTag}
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;

/** What `fenceSql` gives. */
export interface FenceRow {
  readonly drawn: number;
  readonly first: number | null;
  readonly standby: boolean;
}

/**
 * Query that gives `drawn`, the newest position that was drawn, and then what `firstInFlightSql` gives.
 *
 * The sequence must be read before the locks: an append whose lock the second read does not see has drawn its position
 * before the first read, or draws it later, above the value that was read. What reads the locks needs the row of the
 * sequence for its condition, so that no plan can begin with it.
 */
export const fenceSql = `SELECT drawn, first, standby
        FROM (SELECT (last_value - (NOT is_called)::int)::float8 AS drawn FROM event_positions OFFSET 0) AS sequence,
          LATERAL (${firstInFlightSql} AND drawn >= 0) AS flights`;
