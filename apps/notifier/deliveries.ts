import { createHash } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';

/** Hashes an address. The hash is kept and logged instead of the address. */
export const recipientOf = (address: string): string =>
  createHash('sha256').update(address.trim().toLowerCase()).digest('hex').slice(0, 32);

/**
 * Records who has received the notice of which episode (`domain id/number of the failure`), and which episodes are
 * settled.
 */
@Injectable()
export class Deliveries {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /** Reads the recipients that need no more mail: the mail was sent, or cannot be delivered. */
  async recipients(episode: string): Promise<Set<string>> {
    const { rows } = await this.pool.query<{ recipient: string }>(
      'SELECT recipient FROM deliveries WHERE episode = $1',
      [episode],
    );
    return new Set(rows.map(({ recipient }) => recipient));
  }

  /** Reads the recipients to whom the mail was sent. */
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

  /**
   * Settles an episode, which gets no more mail.
   *
   * `superseded`: the domain was verified again or deleted before all owners had the mail.
   */
  async settle(episode: string, outcome: 'told' | 'superseded' | 'no_owners'): Promise<void> {
    await this.pool.query('INSERT INTO settled_episodes (episode, outcome) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
      episode,
      outcome,
    ]);
  }
}
