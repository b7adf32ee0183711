import { hash } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { isLive, type LiveDomain, type MailDomain } from '@app/mail-domain';
import { allPass, isBroken, type Assessment, type Expected } from '@app/mail-records';
import { Pool } from 'pg';
import { RequestedLooks, slotOf } from '@app/cycle';
import { sesRegionOf } from '@app/read-model';

/** The data of a domain that the cycle needs: a pure function of its stream up to `version`. */
export interface WatchedDomain extends Expected {
  readonly id: string;
  readonly status: LiveDomain['status'];
  /** Whether the domain was verified before, so that strikes count. */
  readonly lapsed: boolean;
  /** Fingerprint of the last recorded assessment; null before the first. */
  readonly look: string | null;
  readonly version: number;
}

/** A domain that was never verified, with the age that it has reached. */
export interface YoungDomain extends WatchedDomain {
  /** The number of that age in the list of ages, from 1. */
  readonly turn: number;
  /** The time at which it reached that age, in milliseconds since the epoch. */
  readonly dueAt: number;
}

/**
 * Hashes everything in an assessment that a customer could see. The parts are separated by NUL, which none of them
 * contains.
 */
function fingerprint({ findings, sesDkimStatus }: Assessment): string {
  let text = String(sesDkimStatus);
  for (const { check, decides, outcome, code, message, name, expected, observed } of findings)
    text += `\0${check}${decides === false ? ' (decides nothing)' : ''}\0${outcome}\0${code}\0${message}\0${name}\0${expected}\0${observed.length}\0${observed.join('\0')}`;
  return hash('sha256', text, 'base64url').slice(0, 22);
}

export const watched = (state: LiveDomain, version: number): WatchedDomain => ({
  id: state.id,
  name: state.name,
  team: state.team,
  dkimTokens: state.dkimTokens,
  dkimZone: state.dkimZone,
  sesRegion: state.sesRegion,
  status: state.status,
  lapsed: state.status === 'pending' && state.lapsed,
  look: state.lastAssessment && fingerprint(state.lastAssessment),
  version,
});

/**
 * Whether recording this assessment would change nothing, so that the domain's stream need not be read. The assessment
 * of a lapsed domain always changes something, since each one adds or clears a strike.
 */
export function changesNothing(domain: WatchedDomain, assessment: Assessment): boolean {
  if (domain.lapsed || domain.look !== fingerprint(assessment)) return false;
  return domain.status === 'verified' ? !isBroken(assessment.findings) : !allPass(assessment.findings);
}

/**
 * What SES has for a domain. A release that did not keep the Region may still write rows during an upgrade; the read
 * model has it then.
 */
const keys = `dkim_tokens AS "dkimTokens", dkim_zone AS "dkimZone",
          coalesce(w.ses_region, ${sesRegionOf('w.id')}, '') AS "sesRegion"`;

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
    const { name, team, dkimTokens, dkimZone, sesRegion, status, lapsed, look } = watched(state, version);
    await this.pool.query({
      name: 'watched-follow',
      text: `
        INSERT INTO watched_domains AS w
          (id, slot, name, team, dkim_tokens, dkim_zone, ses_region, status, lapsed, look, version, added_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (id) DO UPDATE SET
          dkim_tokens = excluded.dkim_tokens, dkim_zone = excluded.dkim_zone, ses_region = excluded.ses_region,
          status = excluded.status, lapsed = excluded.lapsed, look = excluded.look, version = excluded.version
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
      ],
    });
  }

  /**
   * Writes the result of the scheduler's own command before its events arrive. Adds no domain: only events do. A
   * fingerprint of an earlier release is replaced, since it would cause a command for the domain in every cycle.
   */
  async refresh(id: string, state: MailDomain, version: number): Promise<void> {
    if (!isLive(state)) return this.remove(id);
    const { status, lapsed, look, dkimTokens, dkimZone, sesRegion } = watched(state, version);
    await this.pool.query({
      name: 'watched-refresh',
      text: `
        UPDATE watched_domains SET status = $2, lapsed = $3, look = $4, version = $5, dkim_tokens = $6, dkim_zone = $7,
          ses_region = $8
        WHERE id = $1 AND (version < $5 OR (version = $5 AND look IS DISTINCT FROM $4))`,
      values: [id, status, lapsed, look, version, dkimTokens, dkimZone, sesRegion],
    });
  }

  /**
   * Reads the pending and verified domains of a slot in the order of their ids: at most `limit`, above the id `after`.
   */
  async page(slot: number, after: string, limit: number): Promise<WatchedDomain[]> {
    const { rows } = await this.pool.query<WatchedDomain>({
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
