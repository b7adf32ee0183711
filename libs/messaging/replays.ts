import type { Pool } from 'pg';
import type { Selection, Span } from '@app/event-store';

/** A run that publishes past events again. */
export interface Replay {
  /** `rpl_…` */
  readonly id: string;
  readonly topic: string;
  readonly selection: Selection;
  /** The part of the log that is still to be published. */
  readonly span: Span;
}

/** Stores the replays that have begun and not ended, so that a replay that was stopped can continue. */
export class Replays {
  constructor(private readonly pool: Pool) {}

  async begin(id: string, topic: string, selection: Selection, span: Span): Promise<Replay> {
    await this.pool.query(
      'INSERT INTO replays (id, topic, selection, published_up_to, up_to) VALUES ($1, $2, $3, $4, $5)',
      [id, topic, JSON.stringify(selection), span.after, span.upTo],
    );
    return { id, topic, selection, span };
  }

  /** Finds a replay; undefined when it has ended or never existed. */
  async find(id: string): Promise<Replay | undefined> {
    const { rows } = await this.pool.query<{
      topic: string;
      selection: { from?: string; to?: string; streams?: string[]; types?: string[] };
      after: number;
      upTo: number;
    }>(
      `SELECT topic, selection, published_up_to::float8 AS after, up_to::float8 AS "upTo" FROM replays
       WHERE id = $1 AND ended_at IS NULL`,
      [id],
    );
    if (!rows[0]) return undefined;
    const { topic, selection, after, upTo } = rows[0];
    const { from, to, streams, types } = selection;
    return {
      id,
      topic,
      span: { after, upTo },
      selection: { streams, types, from: from ? new Date(from) : undefined, to: to ? new Date(to) : undefined },
    };
  }

  /** Notes that everything at or below the position is acknowledged. */
  async reached(id: string, position: number): Promise<void> {
    await this.pool.query('UPDATE replays SET published_up_to = $2 WHERE id = $1', [id, position]);
  }

  async end(id: string): Promise<void> {
    await this.pool.query('UPDATE replays SET ended_at = now() WHERE id = $1', [id]);
  }
}
