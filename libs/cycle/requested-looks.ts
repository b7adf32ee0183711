import { ofAnyLength } from '@app/database';
import type { Pool } from 'pg';

/**
 * Stores when each domain was last looked at by request, where that look found nothing new: such a look is no event.
 * One row a domain, however often a customer asks, for as long as the domain is there.
 */
export class RequestedLooks {
  constructor(private readonly pool: Pick<Pool, 'query'>) {}

  async note(domainId: string, at: Date): Promise<void> {
    await this.pool.query({
      name: 'requested-look',
      text: `INSERT INTO requested_looks AS looks (domain, at) VALUES ($1, $2)
        ON CONFLICT (domain) DO UPDATE SET at = greatest(looks.at, excluded.at)`,
      values: [domainId, at],
    });
  }

  /** Gives the times by domain; a domain without such a look is absent. */
  async of(domainIds: readonly string[]): Promise<Map<string, Date>> {
    const { rows } = await this.pool.query<{ domain: string; at: Date }>({
      name: 'requested-looks',
      text: `SELECT domain, at FROM requested_looks WHERE domain = ANY (${ofAnyLength('$1', 'text')})`,
      values: [domainIds],
    });
    return new Map(rows.map(({ domain, at }) => [domain, at]));
  }

  /**
   * Forgets the looks at domains that are gone, of which nobody is told when they were looked at.
   *
   * @param isGone gives the SQL condition that a domain, whose id an expression names, is gone.
   */
  async forget(isGone: (id: string) => string): Promise<void> {
    await this.pool.query(`DELETE FROM requested_looks AS looks WHERE ${isGone('looks.domain')}`);
  }
}
