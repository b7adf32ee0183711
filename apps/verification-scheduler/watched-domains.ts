import { hash } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import {
  allPass,
  failing,
  isLive,
  type Assessment,
  type Expected,
  type LiveDomain,
  type MailDomain,
} from '@app/mail-domain';
import { Pool } from 'pg';
import { slotOf } from '@app/cycle';

/** What the cycle needs to know of a domain: a pure function of its stream, up to `version`. */
export interface WatchedDomain extends Expected {
  readonly id: string;
  readonly status: LiveDomain['status'];
  /** It was verified before, so that strikes count. */
  readonly lapsed: boolean;
  /** Fingerprint of the last recorded look; null before the first. */
  readonly look: string | null;
  readonly version: number;
}

/** A domain that was never verified, and the age that it has reached. */
export interface YoungDomain extends WatchedDomain {
  /** Which of the ages, from 1. */
  readonly turn: number;
  /** When it reached that age, in milliseconds since the epoch. */
  readonly dueAt: number;
}

/** Of all that a customer could see. No part has a NUL in it: what cannot be printed is escaped. */
function fingerprint({ findings, sesDkimStatus }: Assessment): string {
  let text = String(sesDkimStatus);
  for (const { check, outcome, code, message, name, expected, observed } of findings)
    text += `\0${check}\0${outcome}\0${code}\0${message}\0${name}\0${expected}\0${observed.length}\0${observed.join('\0')}`;
  return hash('sha256', text, 'base64url').slice(0, 22);
}

export const watched = (state: LiveDomain, version: number): WatchedDomain => ({
  id: state.id,
  name: state.name,
  team: state.team,
  dkimTokens: state.dkimTokens,
  dkimZone: state.dkimZone,
  status: state.status,
  lapsed: state.status === 'pending' && state.lapsed,
  look: state.lastAssessment && fingerprint(state.lastAssessment),
  version,
});

/**
 * True when a scheduled check with this result would be decided to change nothing, so that the domain's stream need not
 * be read. Never of a lapsed domain: each look at it counts, or clears, a strike.
 */
export function isOldNews(domain: WatchedDomain, look: Assessment): boolean {
  if (domain.lapsed || domain.look !== fingerprint(look)) return false;
  return domain.status === 'verified' ? failing(look.findings).length === 0 : !allPass(look.findings);
}

/** The scheduler's own table of the domains that customers have, by slot. */
@Injectable()
export class WatchedDomains {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /** The version of the stream that is known here; 0 of a domain that is not. */
  async version(id: string): Promise<number> {
    const { rows } = await this.pool.query<{ version: number }>({
      name: 'watched-version',
      text: 'SELECT version FROM watched_domains WHERE id = $1',
      values: [id],
    });
    return rows[0]?.version ?? 0;
  }

  /** What the stream says now: from its events, in their order. */
  async follow(id: string, state: MailDomain, version: number): Promise<void> {
    if (!isLive(state)) return this.remove(id);
    const { name, team, dkimTokens, dkimZone, status, lapsed, look } = watched(state, version);
    await this.pool.query({
      name: 'watched-follow',
      text: `
        INSERT INTO watched_domains AS w (id, slot, name, team, dkim_tokens, dkim_zone, status, lapsed, look, version, added_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (id) DO UPDATE SET
          dkim_tokens = excluded.dkim_tokens, dkim_zone = excluded.dkim_zone,
          status = excluded.status, lapsed = excluded.lapsed, look = excluded.look, version = excluded.version
        WHERE w.version < excluded.version`,
      values: [id, slotOf(id), name, team, dkimTokens, dkimZone, status, lapsed, look, version, state.addedAt],
    });
  }

  /**
   * What the scheduler's own command led to, before the events of it arrive. Adds no domain: only its events do. A fingerprint
   * that an earlier release made in another way is replaced, or the domain would cost a command in every cycle.
   */
  async refresh(id: string, state: MailDomain, version: number): Promise<void> {
    if (!isLive(state)) return this.remove(id);
    const { status, lapsed, look, dkimTokens, dkimZone } = watched(state, version);
    await this.pool.query({
      name: 'watched-refresh',
      text: `
        UPDATE watched_domains SET status = $2, lapsed = $3, look = $4, version = $5, dkim_tokens = $6, dkim_zone = $7
        WHERE id = $1 AND (version < $5 OR (version = $5 AND look IS DISTINCT FROM $4))`,
      values: [id, status, lapsed, look, version, dkimTokens, dkimZone],
    });
  }

  /** The pending and verified domains of a slot in the order of their ids, at most `limit`, above the id `after`. */
  async page(slot: number, after: string, limit: number): Promise<WatchedDomain[]> {
    const { rows } = await this.pool.query<WatchedDomain>({
      name: 'watched-page',
      text: `
        SELECT id, name, team, dkim_tokens AS "dkimTokens", dkim_zone AS "dkimZone", status, lapsed, look, version
        FROM watched_domains
        WHERE slot = $1 AND id > $2 AND status IN ('pending', 'verified') ORDER BY id LIMIT $3`,
      values: [slot, after, limit],
    });
    return rows;
  }

  /**
   * The domains, never verified, that have reached one of the ages (milliseconds) after `from` and by `until` (milliseconds since the
   * epoch), each with the latest such age; in the order of their ids, at most `limit`, above the id `after`.
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
        SELECT DISTINCT ON (w.id) w.id, name, team, dkim_tokens AS "dkimTokens", dkim_zone AS "dkimZone", status, lapsed, look,
          version, a.turn::integer AS turn, (extract(epoch FROM added_at) * 1000 + a.age)::float8 AS "dueAt"
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
