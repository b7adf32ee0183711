import type { Pool } from 'pg';

/** Shows the bytes of each table with its indexes for each domain, the largest first. */
export async function showTableSizes(pool: Pool, domains: number): Promise<void> {
  await pool.query('VACUUM');
  const { rows } = await pool.query<{ name: string; bytes: string }>(
    `SELECT coalesce(parent.relname, c.relname) AS name, sum(pg_total_relation_size(c.oid)) AS bytes
     FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
     WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
     GROUP BY 1 ORDER BY 2 DESC LIMIT 8`,
  );
  console.log('\nbytes of PostgreSQL for a domain, with indexes:');
  for (const { name, bytes } of rows)
    console.log(`  ${name.padEnd(24)}${(Number(bytes) / domains).toFixed(0).padStart(8)}`);
}
