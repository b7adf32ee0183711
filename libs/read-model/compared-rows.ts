import type { Connection } from '@app/database';
import { hasTypeSql } from '@app/event-store';

type Database = Pick<Connection, 'query'>;

/** Rows of a page. */
const pageSize = 1_000;

/** A domain that the mail server is to have. */
export interface ServedDomain {
  readonly id: string;
  readonly name: string;
  readonly receives: boolean;
  readonly provider: string | null;
  readonly shard: string;
  readonly version: number;
  /** Whether it has ever had rules about senders. */
  readonly hasFilters: boolean;
}

/** A mailbox as the mail server is to have it. */
export interface ServedMailbox {
  readonly id: string;
  /** Empty once it is erased. */
  readonly address: string;
  readonly domainId: string | null;
  readonly status: string;
  readonly provider: string | null;
  readonly version: number;
}

/** A domain that SES may have an identity of. */
export interface IdentifiedDomain {
  readonly id: string;
  readonly name: string;
  readonly shard: string;
  readonly otherShard: string | null;
  readonly tokens: readonly string[];
  /** Whether it is provisioned, and not being deleted. */
  readonly isSettled: boolean;
}

const settled = `status IN ('pending', 'verified', 'failed')`;

/** Yields the domains that are provisioned, in the order of their ids. */
export const servedDomains = (database: Database): AsyncGenerator<ServedDomain[], void> =>
  pages<ServedDomain>(
    database,
    `SELECT id, name, mode <> 'send_only' AS receives, outbound_provider AS provider, ses_shard AS shard, version,
       ${hasTypeSql('domains.id', 'SenderFiltersChanged')} AS "hasFilters"
     FROM domains WHERE id > $1 AND ${settled} ORDER BY id LIMIT ${pageSize}`,
  );

/** Yields all mailboxes in the order of their ids. */
export const servedMailboxes = (database: Database): AsyncGenerator<ServedMailbox[], void> =>
  pages<ServedMailbox>(
    database,
    `SELECT id, coalesce(address, '') AS address, domain_id AS "domainId", status, outbound_provider AS provider, version
     FROM mailboxes WHERE id > $1 ORDER BY id LIMIT ${pageSize}`,
  );

/** Gives the domains that SES may have identities of, by their names. */
export async function identifiedDomains(database: Database): Promise<Map<string, IdentifiedDomain>> {
  const { rows } = await database.query<IdentifiedDomain>(
    `SELECT id, name, ses_shard AS shard, ses_other_shard AS "otherShard", coalesce(dkim_tokens, '[]') AS tokens,
       ${settled} AS "isSettled"
     FROM domains WHERE status NOT IN ('rolled_back', 'deleted')`,
  );
  return new Map(rows.map((row) => [row.name, row]));
}

/** Gives the status of each of these domains or mailboxes that there is, by its id. */
export async function statusesOf(
  database: Database,
  table: 'domains' | 'mailboxes',
  ids: readonly string[],
): Promise<Map<string, string>> {
  const { rows } = await database.query<{ id: string; status: string }>(
    `SELECT id, status FROM ${table} WHERE id = ANY ($1)`,
    [ids],
  );
  return new Map(rows.map(({ id, status }) => [id, status]));
}

/** Tells whether a mailbox is there with its address. */
export async function hasAddress(database: Database, id: string): Promise<boolean> {
  const { rowCount } = await database.query('SELECT FROM mailboxes WHERE id = $1 AND address IS NOT NULL', [id]);
  return rowCount === 1;
}

async function* pages<Row extends { readonly id: string }>(
  database: Database,
  text: string,
): AsyncGenerator<Row[], void> {
  for (let after = ''; ;) {
    const { rows } = await database.query<Row>(text, [after]);
    if (rows.length > 0) yield rows;
    if (rows.length < pageSize) return;
    after = rows.at(-1)!.id;
  }
}
