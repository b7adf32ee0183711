import type { PageSelection } from '@app/event-store';
import type { Pool } from 'pg';

/** The most streams that are listed by their names. */
const mostListed = 1_000;

/** The streams of the domains and mailboxes that a team has or had. */
export interface TeamStreams {
  readonly team: string;
  /** The ids of the domains, with the mailboxes on them; null for all. */
  readonly domains: readonly string[] | null;
}

/** Gives the streams of a team in the form in which the log selects them: a list where they are few. */
export async function teamStreams(pool: Pool, { team, domains }: TeamStreams): Promise<PageSelection['streams']> {
  const { rows } = await pool.query<{ id: string }>({
    name: 'streams-of-team',
    text: `SELECT id FROM (
        SELECT id FROM domains WHERE team = $1 AND ($2::text[] IS NULL OR id = ANY ($2))
        UNION ALL
        SELECT id FROM mailboxes WHERE team = $1 AND ($2::text[] IS NULL OR domain_id = ANY ($2))
      ) AS streams LIMIT $3`,
    values: [team, domains, mostListed + 1],
  });
  if (rows.length <= mostListed) return rows.map(({ id }) => id);
  return {
    condition: `EXISTS (
        SELECT FROM domains d WHERE d.id = stream AND d.team = $7 AND ($8::text[] IS NULL OR d.id = ANY ($8))
      ) OR EXISTS (
        SELECT FROM mailboxes m WHERE m.id = stream AND m.team = $7 AND ($8::text[] IS NULL OR m.domain_id = ANY ($8))
      )`,
    values: [team, domains],
  };
}
