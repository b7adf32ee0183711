import { LostHistory } from '@app/event-store';
import { sharedDomainId, type MailServerTables, type MailboxRow } from '@app/mail-server';
import { servedDomains, servedMailboxes, statusesOf, type ServedDomain, type ServedMailbox } from '@app/read-model';
import { defaultShard, sesRelay } from '@app/runtime';
import { provisioningLists, reconcileKey, reconcileTask, TaskList } from '@app/tasks';
import type { Pool } from 'pg';
import type { Difference, Findings, Kind } from './findings';
import { convergeAgain } from './ses';

export interface MailServerComparison {
  readonly pool: Pool;
  readonly tables: MailServerTables;
  readonly findings: Findings;
  readonly signal: AbortSignal;
  readonly reached: (rows: number) => void;
}

/**
 * Compares the tables that Postfix reads with the domains and mailboxes of the log. What differs is written again by
 * provisioning, from the streams; so an empty database is filled in this way.
 */
export async function compareMailServer(comparison: MailServerComparison): Promise<void> {
  const { signal, reached } = comparison;
  let done = 0;
  for await (const page of servedDomains(comparison.pool)) {
    signal.throwIfAborted();
    await compareDomains(comparison, page);
    reached((done += page.length));
  }
  for await (const page of servedMailboxes(comparison.pool)) {
    signal.throwIfAborted();
    await compareMailboxes(comparison, page);
    reached((done += page.length));
  }
  await findUnknown(comparison);
}

const found = (kind: Kind, what: string, log: string, there: string): Difference => ({
  area: 'mail-server',
  kind,
  what,
  log,
  there,
});

async function compareDomains(
  { pool, tables, findings }: MailServerComparison,
  page: readonly ServedDomain[],
): Promise<void> {
  const ids = page.map(({ id }) => id);
  const rows = await tables.domainsNamed(page.map(({ name }) => name));
  const [choices, filters] = [await tables.choicesOf(ids), await tables.filtersOf(ids)];
  for (const domain of page) {
    const { id, name } = domain;
    const row = rows.get(name);
    const faults: [there: string, kind: Kind][] = [];
    if (!row) faults.push(['no row', 'missing']);
    else if (row.domainId !== id) faults.push([`the row of ${row.domainId}`, 'different']);
    else if (domain.receives && !row.receives) faults.push(['it only sends', 'different']);
    const choice = choices.get(id);
    const relay = (shard: string | null) => shard ?? sesRelay(defaultShard);
    if ((choice?.provider ?? null) !== domain.provider || relay(choice?.relay ?? null) !== sesRelay(domain.shard))
      faults.push([`it sends through ${choice?.provider ?? relay(choice?.relay ?? null)}`, 'different']);
    const newest = Math.max(choice?.version ?? 0, filters.get(id) ?? 0);
    if (newest > domain.version) faults.push([`version ${newest}`, 'different']);
    if (filters.has(id) !== domain.hasFilters)
      faults.push([filters.has(id) ? 'rules about senders' : 'no rules about senders', 'different']);
    if (faults.length === 0) continue;
    const other = row && row.domainId !== id ? row.domainId : undefined;
    const isTheirs = other !== undefined && !(await isGone(pool, other));
    await findings.take(
      found(
        isTheirs ? 'foreign' : faults[0]![1],
        name,
        `${id}, version ${domain.version}`,
        faults.map(([there]) => there).join(', '),
      ),
      isTheirs
        ? {}
        : {
            fromLog: async () => {
              if (other !== undefined) await tables.removeDomain(name, other);
              await tables.outdate(id);
              await placeAgain(pool, id);
            },
          },
    );
  }
}

async function compareMailboxes(
  { pool, tables, findings }: MailServerComparison,
  page: readonly ServedMailbox[],
): Promise<void> {
  const rows = await tables.mailboxesOf(page.map(({ id }) => id));
  for (const mailbox of page) {
    const row = rows.get(mailbox.id);
    // What is deleted and not there is as good as a row that says so.
    if (!row && mailbox.status === 'deleted') continue;
    const said = { ...mailbox, domainId: mailbox.domainId ?? sharedDomainId };
    const columns = (['address', 'domainId', 'status', 'provider', 'version'] as const).filter(
      (column) => row && row[column] !== said[column],
    );
    if (row && columns.length === 0) continue;
    const shown = (each: Omit<MailboxRow, 'id'>) =>
      columns.map((column) => `${column} ${each[column] ?? 'none'}`).join(', ');
    await findings.take(
      row
        ? found('different', mailbox.id, shown(said), shown(row))
        : found('missing', mailbox.id, `a mailbox that is ${mailbox.status}`, 'no row'),
      {
        fromLog: async () => {
          await tables.outdate(mailbox.id);
          await placeAgain(pool, mailbox.id);
        },
      },
    );
  }
}

/** Finds what the tables have of domains and mailboxes that the log does not know, or that have ended. */
async function findUnknown({ pool, tables, findings, signal }: MailServerComparison): Promise<void> {
  for await (const page of tables.domains()) {
    signal.throwIfAborted();
    const known = await statusesOf(
      pool,
      'domains',
      page.map(({ domainId }) => domainId),
    );
    for (const { name, domainId } of page) {
      const status = known.get(domainId);
      if (status === undefined)
        await unknown(pool, findings, name, domainId, () => tables.removeDomain(name, domainId));
      else if (status === 'deleted' || status === 'rolled_back')
        await findings.take(found('left', name, `${domainId} is ${status.replace('_', ' ')}`, 'a row'), {
          fromLog: () => convergeAgain(pool, domainId),
        });
    }
  }
  for await (const page of tables.mailboxes()) {
    signal.throwIfAborted();
    const known = await statusesOf(
      pool,
      'mailboxes',
      page.map(({ id }) => id),
    );
    for (const { id } of page)
      if (!known.has(id)) await unknown(pool, findings, id, id, () => tables.removeMailbox(id));
  }
}

async function unknown(pool: Pool, findings: Findings, what: string, id: string, remove: () => Promise<void>) {
  const isLost = await new LostHistory(pool).has(id);
  await findings.take(
    found(isLost ? 'lost' : 'foreign', what, isLost ? `${id} was lost` : `${id} is unknown`, 'a row'),
    isLost ? { delete: remove } : {},
  );
}

/** Tells whether a domain has ended, or was lost by a restore. */
async function isGone(pool: Pool, id: string): Promise<boolean> {
  const status = (await statusesOf(pool, 'domains', [id])).get(id);
  return status === undefined ? new LostHistory(pool).has(id) : ['deleted', 'rolled_back'].includes(status);
}

/** Has provisioning write a domain or a mailbox to the mail server again, from its stream. */
const placeAgain = (pool: Pool, id: string): Promise<void> =>
  new TaskList(pool).put(provisioningLists.placement, reconcileKey(id), reconcileTask, {
    at: new Date().toISOString(),
  });
