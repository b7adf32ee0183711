import { createHash } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';

/** Stands for an address wherever it is kept or logged. */
export const recipientOf = (address: string): string =>
  createHash('sha256').update(address.trim().toLowerCase()).digest('hex').slice(0, 32);

/** Who has been told of which episode (`domain id/number of the failure`), and which episodes ask for nothing more. */
@Injectable()
export class Deliveries {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /** The recipients that are done with: told, or never to be reached. */
  async recipients(episode: string): Promise<Set<string>> {
    const { rows } = await this.pool.query<{ recipient: string }>(
      'SELECT recipient FROM deliveries WHERE episode = $1',
      [episode],
    );
    return new Set(rows.map(({ recipient }) => recipient));
  }

  /** The recipients that have been told. */
  async told(episode: string): Promise<Set<string>> {
    const { rows } = await this.pool.query<{ recipient: string }>(
      `SELECT recipient FROM deliveries WHERE episode = $1 AND outcome = 'sent'`,
      [episode],
    );
    return new Set(rows.map(({ recipient }) => recipient));
  }

  async record(episode: string, recipient: string, outcome: 'sent' | 'undeliverable'): Promise<void> {
    await this.pool.query(
      'INSERT INTO deliveries (episode, recipient, outcome) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
      [episode, recipient, outcome],
    );
  }

  async isSettled(episode: string): Promise<boolean> {
    const { rowCount } = await this.pool.query('SELECT FROM settled_episodes WHERE episode = $1', [episode]);
    return rowCount === 1;
  }

  /** `superseded`: the domain was verified again, or deleted, before everybody was told. */
  async settle(episode: string, outcome: 'told' | 'superseded' | 'no_owners'): Promise<void> {
    await this.pool.query('INSERT INTO settled_episodes (episode, outcome) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
      episode,
      outcome,
    ]);
  }
}
