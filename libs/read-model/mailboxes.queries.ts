import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';
import { archivedAboveSql, keptStream, newestTypeSql } from '@app/event-store';
import type { Mailbox, MailboxEvent } from '@app/mailbox';

/** A mailbox as its team sees it; a deleted one only in the list that is asked for with them. */
export interface MailboxView {
  readonly id: string;
  /** Null once it is erased. */
  readonly address: string | null;
  readonly team: string;
  /** Null on the shared domain. */
  readonly domainId: string | null;
  readonly status: 'active' | 'suspended' | 'deleted';
  /** The mailbox's own choice; null when it has made none. */
  readonly provider: string | null;
  /** The choice of its domain; null when it has made none. */
  readonly domainProvider: string | null;
  /** Null for none. */
  readonly displayName: string | null;
  readonly createdAt: Date;
  readonly version: number;
}

/** What a list of mailboxes is limited to. */
export interface MailboxFilter {
  /** The id of the last mailbox of the page before. */
  readonly before?: string;
  readonly domainId?: string;
  readonly withDeleted?: boolean;
}

const visible = `m.status <> 'deleted'`;
const columns = `m.id, m.address, m.team, m.domain_id AS "domainId", m.status, m.outbound_provider AS "provider",
  m.display_name AS "displayName",
  d.outbound_provider AS "domainProvider", m.created_at AS "createdAt", m.version`;
const from = 'FROM mailboxes m LEFT JOIN domains d ON d.id = m.domain_id';

/**
 * Gives what a read of the row of a state gives; undefined for a mailbox that was never created.
 *
 * @param domainProvider the choice of its domain.
 */
export function mailboxView(state: Mailbox, version: number, domainProvider: string | null): MailboxView | undefined {
  if (state.status === 'absent') return undefined;
  const { id, address, team, domainId, status, provider, displayName, createdAt } = state;
  const own = { id, address, team, domainId, status, provider, displayName };
  return { ...own, domainProvider, createdAt: new Date(createdAt), version };
}

/** Gives the SQL condition that every mailbox of a domain was deleted by a time, each given by an expression. */
export const allMailboxesGoneSql = (domainId: string, time: string): string =>
  `NOT EXISTS (SELECT FROM mailboxes m WHERE m.domain_id = ${domainId} AND (${visible} OR m.updated_at > ${time}))`;

/** A moment in the life of a domain. */
export interface DomainMoment {
  readonly domainId: string;
  /** The position of the event that ends it. */
  readonly position: number;
  /** The time of that event: ISO 8601. */
  readonly time: string;
}

/**
 * The most by which the clocks of two processes may differ. A mailbox whose last event is older than a moment by more
 * has the status of today.
 */
const skew = '5 minutes';

/** The events that change the status of a mailbox. */
const statusEvents: MailboxEvent['type'][] = ['MailboxCreated', 'MailboxSuspended', 'MailboxResumed', 'MailboxDeleted'];

/** Gives the SQL condition that there is a mailbox, or was one, of the id that an expression gives. */
export const isMailboxSql = (id: string): string => `EXISTS (SELECT FROM mailboxes m WHERE m.id = ${id})`;

/** Reads the `mailboxes` table. */
@Injectable()
export class MailboxesReadModel {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Finds a team's mailbox. Gives undefined both when there is none and when it is another team's, so that the two
   * cannot be told apart.
   */
  async find(id: string, team: string): Promise<MailboxView | undefined> {
    const { rows } = await this.pool.query<MailboxView>({
      name: 'mailbox-find',
      text: `SELECT ${columns} ${from} WHERE m.id = $1 AND m.team = $2 AND ${visible}`,
      values: [id, team],
    });
    return rows[0];
  }

  /** Counts the mailboxes on a domain that were there at a time, the suspended ones too. */
  async countAt(domainId: string, at: Date): Promise<number> {
    const { rows } = await this.pool.query<{ mailboxes: number }>({
      name: 'mailbox-count-at',
      text: `SELECT count(*)::int AS mailboxes FROM mailboxes m
        WHERE m.domain_id = $1 AND m.created_at <= $2 AND (${visible} OR m.updated_at > $2)`,
      values: [domainId, at],
    });
    return rows[0]!.mailboxes;
  }

  /**
   * Counts the active mailboxes on domains, each as of a position in the log. It reads the events of those mailboxes
   * alone that have changed since, and from their files those of erased ones that are in archives.
   *
   * @returns one number for each moment, in their order.
   * @throws {ArchiveAway} {ArchiveBroken}
   */
  async activeAt(moments: readonly DomainMoment[]): Promise<number[]> {
    if (moments.length === 0) return [];
    const lastThen = newestTypeSql('m.id', 'moment.position', statusEvents);
    const wasActive = `${lastThen} IN ('MailboxCreated', 'MailboxResumed')`;
    const isArchived = archivedAboveSql('m.id', 'moment.position');
    const deletedSince = `FROM mailboxes m WHERE m.domain_id = moment.domain_id AND m.status = 'deleted'
            AND m.created_at <= moment.time + interval '${skew}' AND m.updated_at >= moment.time - interval '${skew}'`;
    const { rows } = await this.pool.query<{ mailboxes: number; archived: string[] }>({
      name: 'mailbox-active-at',
      text: `SELECT (
          SELECT count(*) FROM mailboxes m WHERE m.domain_id = moment.domain_id AND ${visible}
            AND m.created_at <= moment.time + interval '${skew}'
            AND CASE WHEN m.updated_at < moment.time - interval '${skew}' THEN m.status = 'active' ELSE ${wasActive} END
        )::int + (
          SELECT count(*) ${deletedSince} AND CASE WHEN ${isArchived} THEN false ELSE ${wasActive} END
        )::int AS mailboxes,
        ARRAY(SELECT m.id ${deletedSince} AND ${isArchived}) AS archived
        FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) WITH ORDINALITY
          AS moment (domain_id, position, time, nth) ORDER BY nth`,
      values: [
        moments.map(({ domainId }) => domainId),
        moments.map(({ position }) => position),
        moments.map(({ time }) => time),
      ],
    });
    const counts: number[] = [];
    for (const [i, { mailboxes, archived }] of rows.entries()) {
      let active = mailboxes;
      for (const id of archived) if (await this.wasActive(id, moments[i]!.position)) active++;
      counts.push(active);
    }
    return counts;
  }

  /** Tells whether a mailbox was active as of a position, by its events. */
  private async wasActive(id: string, upTo: number): Promise<boolean> {
    const events = await keptStream(this.pool, id);
    const last = events.findLast(
      ({ position, type }) => position <= upTo && statusEvents.some((each) => each === type),
    );
    return last?.type === 'MailboxCreated' || last?.type === 'MailboxResumed';
  }

  /**
   * Lists at most `limit` mailboxes of a team, the newest first: those below the id `before`, of the domain `domainId`,
   * and `withDeleted` ones, as far as these are given.
   */
  async page(
    team: string,
    limit: number,
    { before, domainId, withDeleted = false }: MailboxFilter = {},
  ): Promise<MailboxView[]> {
    const { rows } = await this.pool.query<MailboxView>({
      name: withDeleted ? 'mailbox-page-ever' : 'mailbox-page',
      text: `SELECT ${columns} ${from}
        WHERE m.team = $1 ${withDeleted ? '' : `AND ${visible}`}
          AND ($3::text IS NULL OR m.id < $3) AND ($4::text IS NULL OR m.domain_id = $4)
        ORDER BY m.id DESC LIMIT $2`,
      values: [team, limit, before ?? null, domainId ?? null],
    });
    return rows;
  }

  /** Gives ids of the mailboxes on a domain, in their order: at most `limit`, above the id `after`. */
  async idsOn(domainId: string, after: string, limit: number): Promise<string[]> {
    const { rows } = await this.pool.query<{ id: string }>({
      name: 'mailbox-ids-on',
      text: `SELECT id FROM mailboxes m WHERE m.domain_id = $1 AND ${visible} AND m.id > $2 ORDER BY m.id LIMIT $3`,
      values: [domainId, after, limit],
    });
    return rows.map(({ id }) => id);
  }

  /** Tells whether an address is that of a mailbox, of whichever team. */
  async isTaken(address: string): Promise<boolean> {
    const { rowCount } = await this.pool.query({
      name: 'mailbox-address',
      text: `SELECT FROM mailboxes m WHERE m.address = $1 AND ${visible}`,
      values: [address],
    });
    return rowCount === 1;
  }

  /** Gives the ids of the mailboxes that have an address or had it, of whichever team, the deleted ones too. */
  async everWith(address: string): Promise<string[]> {
    const { rows } = await this.pool.query<{ id: string }>('SELECT id FROM mailboxes WHERE address = $1 ORDER BY id', [
      address,
    ]);
    return rows.map(({ id }) => id);
  }

  /** Gives the ids of all mailboxes of a team, the deleted ones too. */
  async everOf(team: string): Promise<string[]> {
    const { rows } = await this.pool.query<{ id: string }>('SELECT id FROM mailboxes WHERE team = $1 ORDER BY id', [
      team,
    ]);
    return rows.map(({ id }) => id);
  }

  /** Tells whether a team has its mailbox on the shared domain. */
  async hasShared(team: string): Promise<boolean> {
    const { rowCount } = await this.pool.query({
      name: 'mailbox-shared',
      text: `SELECT FROM mailboxes m WHERE m.team = $1 AND m.domain_id IS NULL AND ${visible}`,
      values: [team],
    });
    return rowCount === 1;
  }
}
