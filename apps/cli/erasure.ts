import { Accounts } from '@app/accounts';
import { CommandToMailbox, MailboxCommandHandler } from '@app/commands';
import { openPool } from '@app/database';
import { finder, needlesOf, removeRowsOf, search, statistics, wipe, type Found, type Remedy } from '@app/erasure';
import { ArchiveAway, archivesOf, EventStore } from '@app/event-store';
import { MailServer } from '@app/mail-server';
import { DeleteMailbox, EraseMailbox, isUnencrypted, mailboxEvent, type MailboxEvent } from '@app/mailbox';
import { beginErasure, destroyMailboxKey, MailboxKeys, unfinishedErasures } from '@app/mailbox-keys';
import { DomainsReadModel, MailboxesReadModel, mailboxesProjection } from '@app/read-model';
import { newId } from '@app/runtime';
import type { KeyRing } from '@app/secret-keys';
import type { Pool } from 'pg';
import { readLines } from './event-file';

/** What becomes of rows that have an address that is erased, by their table. */
export const remedies: Readonly<Record<string, Remedy>> = {
  // The answer to the creation. A repeated request is refused then, since the address is that of a mailbox or free.
  idempotency_keys: 'delete',
  // What an endpoint has answered.
  webhook_deliveries: { response: 'null' },
  tasks: { last_error: 'null' },
  parked_messages: { error: 'empty' },
};

/** The tables whose rows go with their team, and those that go with a domain of it, by the column that says so. */
const tablesOfTeams = { idempotency_keys: 'team', domain_claims: 'team' };
const tablesOfDomains = { deliveries: 'episode', sender_rules: 'domain' };

/** What an operator can do about rows that still have an address, by their table. */
const hints: Readonly<Record<string, string>> = {
  events: 'an earlier release has recorded it in clear: `sendmux erase migrate-log` encrypts it',
  parked_messages: 'a message of an earlier release is parked: `sendmux erase migrate-log` encrypts it',
  mailboxes: 'another mailbox has this address: erase that one too',
  mailboxes_rebuild: 'a rebuild has begun and not ended: `sendmux projections rebuild mailboxes` ends it',
  mailboxes_replaced: 'a rebuild has not dropped the old table: `sendmux projections rebuild mailboxes` does',
  mail_mailboxes: 'another mailbox has this address: erase that one too',
  owners: 'it is that of an owner of a team: `sendmux owner remove`',
  mail_domain_owners: 'it is that of an owner of a team: `sendmux owner remove`',
  invitations: 'it is invited to a team: `sendmux owner withdraw`',
  setup_links: 'a setup link was mailed to it: it is removed when the link ends',
  deliveries: 'a notice was mailed to it, as to an owner of a team',
  sender_rules: 'a team has a rule about it as a sender',
  mail_sender_filters: 'a team has a rule about it as a sender',
  tasks: 'something is about to be mailed to it: try again once it is',
  [statistics]: 'the planner has it: ANALYZE the tables',
};

/** Gives the hint for a table; those of the log are its partitions. */
const hintFor = (table: string): string | undefined => hints[table.replace(/^events_\d+$/, 'events')];

/** A place that still has an address. */
export interface Left {
  /** A table, or a file. */
  readonly place: string;
  /** Rows, or lines. */
  readonly count: number;
  /** What to do about it, where that is known. */
  readonly hint?: string | undefined;
}

/** The databases of an installation, and the keys of its mailboxes. */
export interface Installation {
  readonly pool: Pool;
  /** The URL of the database that Postfix reads. */
  readonly mailServerUrl: string;
  readonly keyRing: KeyRing;
}

/** Thrown for a mailbox that cannot be erased as it is; nothing has changed. */
export class ErasureRefused extends Error {
  override readonly name = 'ErasureRefused';
}

/**
 * Erases what is personal about mailboxes. Each step may be done again, and the key of a mailbox is destroyed after all
 * other steps but the search, so an erasure that was killed goes on when it is asked for again.
 */
export class Erasure {
  private readonly store: EventStore;
  private readonly keys: MailboxKeys;
  private readonly handler: MailboxCommandHandler;
  private readonly readModel: MailboxesReadModel;

  constructor(private readonly of: Installation) {
    this.store = new EventStore(of.pool, mailboxesProjection);
    this.keys = new MailboxKeys(of.pool, of.keyRing);
    this.handler = new MailboxCommandHandler(this.store, this.keys);
    this.readModel = new MailboxesReadModel(of.pool);
  }

  /** Gives the ids of the mailboxes with an address, those whose erasure has begun too. @param address canonical. */
  async withAddress(address: string): Promise<string[]> {
    const ids = new Set(await this.readModel.everWith(address));
    for (const id of await unfinishedErasures(this.of.pool)) if ((await this.addressOf(id)) === address) ids.add(id);
    return [...ids].sort();
  }

  /**
   * Gives the address of a mailbox; null once its key is destroyed.
   *
   * @throws {ErasureRefused} where there is no such mailbox, or its events are not encrypted.
   */
  async addressOf(id: string): Promise<string | null> {
    const recorded = await this.store.readStream(id);
    if (recorded.length === 0) throw new ErasureRefused(`There is no mailbox ${id}.`);
    if (recorded.some(isUnencrypted))
      throw new ErasureRefused(
        `An earlier release has recorded ${id} in clear. Run \`sendmux erase migrate-log\` first: it encrypts such events.`,
      );
    const open = await this.keys.openerOf(recorded);
    const created = recorded
      .map((event): MailboxEvent => mailboxEvent(event, open))
      .find((event) => event.type === 'MailboxCreated');
    return created?.data.address ?? null;
  }

  /**
   * Erases mailboxes: their rows, what is kept of them elsewhere, and at last their keys.
   *
   * @param isDeleting deletes those that are there; otherwise they are refused, and nothing has changed.
   * @returns their addresses, without those that were erased before.
   * @throws {ErasureRefused}
   */
  async erase(ids: readonly string[], isDeleting: boolean): Promise<string[]> {
    const addresses = new Map<string, string | null>();
    for (const id of ids) {
      addresses.set(id, await this.addressOf(id));
      const { state } = await this.handler.load(id);
      if (state.status !== 'deleted' && !isDeleting)
        throw new ErasureRefused(
          `${id} is ${state.status}, and it takes mail. Delete it first, or say --delete: its mail ends then, for good.`,
        );
    }
    const mailServer = new MailServer({ url: this.of.mailServerUrl });
    try {
      for (const id of ids) {
        const correlationId = newId('req');
        const context = () => ({ at: new Date().toISOString(), actor: 'operator', correlationId });
        await beginErasure(this.of.pool, id);
        if ((await this.handler.load(id)).state.status !== 'deleted')
          await this.handler.execute(new CommandToMailbox(new DeleteMailbox(id, context())));
        await this.handler.execute(new CommandToMailbox(new EraseMailbox(id, context())));
        const { state, version } = await this.handler.load(id);
        if (state.status === 'deleted') await mailServer.putMailbox({ ...state, version });
      }
    } finally {
      await mailServer.close();
    }
    const known = [...new Set([...addresses.values()].filter((address) => address !== null))];
    if (known.length > 0) await wipe(this.of.pool, known.map(needlesOf), remedies);
    for (const id of ids) await destroyMailboxKey(this.of.pool, id);
    return known;
  }

  /**
   * Erases what is personal about a team that is deleted: its mailboxes, its name and those of its keys, the answers
   * and claims that are kept of it, and whom it has mailed.
   *
   * @returns the ids of its mailboxes, and the addresses of those that were not erased before.
   * @throws {AccountRuleBroken} `team_not_found`, `team_in_use`
   * @throws {ErasureRefused}
   */
  async eraseTeam(team: string): Promise<{ ids: string[]; addresses: string[] }> {
    const { pool } = this.of;
    await new Accounts(pool).eraseTeam(team);
    const ids = await this.readModel.everOf(team);
    const addresses = await this.erase(ids, false);
    const domains = await new DomainsReadModel(pool).everOf(team);
    await removeRowsOf(pool, tablesOfTeams, [team]);
    await removeRowsOf(pool, tablesOfDomains, domains);
    return { ids, addresses };
  }

  /**
   * Searches both databases, the archives of the log, and files for addresses, in every form in which they may have
   * been written.
   *
   * @param files such as exports and logs; those that end with `.gz` are read as such.
   * @param searched is told of each table and file.
   * @throws {ArchiveAway} where the file of an archive cannot be read: nobody knows then what it has.
   */
  async search(
    addresses: readonly string[],
    files: readonly string[] = [],
    searched?: (place: string) => void,
  ): Promise<Left[]> {
    if (addresses.length === 0) return [];
    const needles = addresses.map(needlesOf);
    const mailServer = openPool(this.of.mailServerUrl, 1, 0);
    try {
      // What is there no more may still be in the statistics.
      await wipe(mailServer, needles, {});
      const found: Found[] = [
        ...(await search(this.of.pool, needles, searched)),
        ...(await search(mailServer, needles, searched)),
      ];
      const left: Left[] = found.map(({ table, rows }) => ({ place: table, count: rows, hint: hintFor(table) }));
      const has = finder(needles);
      const searchFile = async (file: string) => {
        let count = 0;
        for await (const line of readLines(file)) if (has(line)) count++;
        if (count > 0) left.push({ place: file, count });
        searched?.(file);
      };
      for (const { file } of await archivesOf(this.of.pool))
        await searchFile(file).catch((error: unknown) => {
          throw new ArchiveAway(file, error);
        });
      for (const file of files) await searchFile(file);
      return left;
    } finally {
      await mailServer.end();
    }
  }
}
