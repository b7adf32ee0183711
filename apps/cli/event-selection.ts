import type { EventArchive, Selection } from '@app/event-store';
import { schemaVersions } from '@app/mail-domain';
import { parseDomainName } from '@app/mail-records';
import { mailboxSchemaVersions } from '@app/mailbox';
import { parseTime, timeForms } from '@app/runtime';
import { DomainsReadModel } from '@app/read-model';
import type { Command } from 'commander';
import type { Pool } from 'pg';
import { UsedWrongly } from './used-wrongly';

/** The options that `selecting` adds to a command, as they were typed. */
export interface Selected {
  readonly from?: string;
  readonly to?: string;
  readonly domain?: string;
  readonly type?: string[];
}

/** Adds the options that select events. */
export const selecting = (command: Command): Command =>
  command
    .option('--from <time>', `the first moment, by the time of the events: ${timeForms}`)
    .option('--to <time>', 'the moment after the last; the same forms')
    .option('--domain <domain>', 'of one domain or mailbox, by its id; or of all domains that had this name')
    .option('--type <type...>', 'of these types, such as DomainAdded');

/**
 * Parses the options of `selecting`.
 *
 * @throws {UsedWrongly} when a value is no time, event type or domain name.
 * @throws {Error} when no domain or mailbox ever had the id or name.
 */
export async function selectionOf(
  pool: Pool,
  archive: EventArchive,
  { from, to, domain, type: types }: Selected,
): Promise<Selection> {
  const now = new Date();
  const time = (option: string, text: string | undefined) => {
    if (text === undefined) return undefined;
    const parsed = parseTime(text, now);
    if (!parsed) throw new UsedWrongly(`--${option} ${text} is no time. Give ${timeForms}.`);
    return parsed;
  };
  const known = Object.keys({ ...schemaVersions, ...mailboxSchemaVersions });
  const unknown = types?.filter((type) => !known.includes(type)) ?? [];
  if (unknown.length > 0)
    throw new UsedWrongly(`There is no event type ${unknown.join(', ')}. There are ${known.join(', ')}.`);
  const selection = { from: time('from', from), to: time('to', to), types };
  if (selection.from && selection.to && selection.from >= selection.to)
    throw new UsedWrongly(`--from ${from} is not before --to ${to}.`);
  return { ...selection, streams: domain === undefined ? undefined : await streamsOf(pool, archive, domain) };
}

async function streamsOf(pool: Pool, archive: EventArchive, domain: string): Promise<string[]> {
  const streams = /^(mdom|mbx)_[a-z0-9]+$/.test(domain)
    ? await archive.streamsNamed(domain)
    : await streamsOfName(pool, archive, parseDomainName(domain).name);
  if (streams.length === 0) throw new Error(`No domain or mailbox was ever ${domain}.`);
  return streams;
}

/** Finds the domains that have or had a name: the events say which, and of those in archives the read model. */
async function streamsOfName(pool: Pool, archive: EventArchive, name: string): Promise<string[]> {
  const streams = await archive.streamsWith('DomainAdded', 'name', name);
  return [...new Set([...(await new DomainsReadModel(pool).everNamed(name)), ...streams])];
}
