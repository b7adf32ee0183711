import { Inject, Injectable } from '@nestjs/common';
import { isLive, type MailDomain } from '@app/mail-domain';
import { Pool } from 'pg';
import { RequestedLooks, slotOf } from '@app/cycle';
import { sesRegionOf } from '@app/read-model';
import { listedStatusOf, type ListedDomain } from '@app/ses';
import { watched, type WatchedDomain } from './watched-domain';

/** A domain to look at, with what the last listing of SES had of it. */
export interface DueDomain extends WatchedDomain, ListedDomain {
  readonly name: string;
  readonly sesShard: string;
}

/** A domain that was never verified, with the age that it has reached. */
export interface YoungDomain extends DueDomain {
  /** The number of that age in the list of ages, from 1. */
  readonly turn: number;
  /** The time at which it reached that age, in milliseconds since the epoch. */
  readonly dueAt: number;
}

/**
 * What SES has for a domain. A release that did not keep the Region may still write rows during an upgrade; the read
 * model has it then.
 */
const keys = `dkim_tokens AS "dkimTokens", dkim_zone AS "dkimZone",
          coalesce(w.ses_region, ${sesRegionOf('w.id')}, '') AS "sesRegion", w.ses_shard AS "sesShard",
          ${listedStatusOf('w.ses_shard', 'w.name')} AS "listedStatus", w.mode`;

/** Keeps the scheduler's own table of the domains to watch, by slot. */
@Injectable()
export class WatchedDomains {
  private readonly requestedLooks: RequestedLooks;

  constructor(@Inject(Pool) private readonly pool: Pool) {
    this.requestedLooks = new RequestedLooks(pool);
  }

  /**
   * Tells whether a customer has requested a later look, which found nothing new and so is no event.
   *
   * @param lookedAt in milliseconds since the epoch.
   */
  async isOvertaken(id: string, lookedAt: number): Promise<boolean> {
    const requested = (await this.requestedLooks.of([id])).get(id);
    return requested !== undefined && lookedAt < requested.getTime();
  }

  /** Gives the version of the stream from which the row was made; 0 when there is no row. */
  async version(id: string): Promise<number> {
    const { rows } = await this.pool.query<{ version: number }>({
      name: 'watched-version',
      text: 'SELECT version FROM watched_domains WHERE id = $1',
      values: [id],
    });
    return rows[0]?.version ?? 0;
  }

  /** Writes the state of the stream when its events arrive, in order. */
  async follow(id: string, state: MailDomain, version: number): Promise<void> {
    if (!isLive(state)) return this.remove(id);
    const { name, team, mode, dkimTokens, dkimZone, sesRegion, sesShard, status, lapsed, look } = watched(
      state,
      version,
    );
    await this.pool.query({
      name: 'watched-follow',
      text: `
        INSERT INTO watched_domains AS w
          (id, slot, name, team, dkim_tokens, dkim_zone, ses_region, status, lapsed, look, version, added_at, mode,
            ses_shard)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        ON CONFLICT (id) DO UPDATE SET
          dkim_tokens = excluded.dkim_tokens, dkim_zone = excluded.dkim_zone, ses_region = excluded.ses_region,
          status = excluded.status, lapsed = excluded.lapsed, look = excluded.look, version = excluded.version,
          mode = excluded.mode, ses_shard = excluded.ses_shard
        WHERE w.version < excluded.version`,
      values: [
        id,
        slotOf(id),
        name,
        team,
        dkimTokens,
        dkimZone,
        sesRegion,
        status,
        lapsed,
        look,
        version,
        state.addedAt,
        mode,
        sesShard,
      ],
    });
  }

  /**
   * Writes the result of the scheduler's own command before its events arrive. Adds no domain: only events do. A
   * fingerprint of an earlier release is replaced, since it would cause a command for the domain in every cycle.
   */
  async refresh(id: string, state: MailDomain, version: number): Promise<void> {
    if (!isLive(state)) return this.remove(id);
    const { status, lapsed, look, dkimTokens, dkimZone, sesRegion, sesShard, mode } = watched(state, version);
    await this.pool.query({
      name: 'watched-refresh',
      text: `
        UPDATE watched_domains SET status = $2, lapsed = $3, look = $4, version = $5, dkim_tokens = $6, dkim_zone = $7,
          ses_region = $8, mode = $9, ses_shard = $10
        WHERE id = $1 AND (version < $5 OR (version = $5 AND look IS DISTINCT FROM $4))`,
      values: [id, status, lapsed, look, version, dkimTokens, dkimZone, sesRegion, mode, sesShard],
    });
  }

  /**
   * Reads the pending and verified domains of a slot in the order of their ids: at most `limit`, above the id `after`.
   */
  async page(slot: number, after: string, limit: number): Promise<DueDomain[]> {
    const { rows } = await this.pool.query<DueDomain>({
      name: 'watched-page',
      text: `
        SELECT id, name, team, ${keys}, status, lapsed, look, version
        FROM watched_domains w
        WHERE slot = $1 AND id > $2 AND status IN ('pending', 'verified') ORDER BY id LIMIT $3`,
      values: [slot, after, limit],
    });
    return rows;
  }

  /**
   * Reads the domains, never verified, that reached one of the ages (milliseconds) after `from` and by `until`
   * (milliseconds since the epoch), each with the greatest such age. In the order of their ids: at most `limit`, above
   * the id `after`.
   */
  async young(
    ages: readonly number[],
    from: number,
    until: number,
    after: string,
    limit: number,
  ): Promise<YoungDomain[]> {
    const { rows } = await this.pool.query<YoungDomain>({
      name: 'watched-young',
      text: `
        SELECT DISTINCT ON (w.id) w.id, name, team, ${keys}, status, lapsed, look, version,
          a.turn::integer AS turn, (extract(epoch FROM added_at) * 1000 + a.age)::float8 AS "dueAt"
        FROM unnest($1::bigint[]) WITH ORDINALITY AS a(age, turn) JOIN watched_domains w
          ON added_at > to_timestamp(($2 - a.age) / 1000.0::float8) AND added_at <= to_timestamp(($3 - a.age) / 1000.0::float8)
        WHERE status = 'pending' AND NOT lapsed AND w.id > $4
        ORDER BY w.id, a.turn DESC LIMIT $5`,
      values: [ages, from, until, after, limit],
    });
    return rows;
  }

  async verifiedIn(slot: number): Promise<number> {
    const { rows } = await this.pool.query<{ count: number }>({
      name: 'watched-verified',
      text: `SELECT count(*)::integer AS count FROM watched_domains WHERE slot = $1 AND status = 'verified'`,
      values: [slot],
    });
    return rows[0]!.count;
  }

  private async remove(id: string): Promise<void> {
    await this.pool.query({ name: 'watched-remove', text: 'DELETE FROM watched_domains WHERE id = $1', values: [id] });
  }
}
