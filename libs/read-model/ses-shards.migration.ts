import type { MigrationInterface, QueryRunner } from 'typeorm';
import { holding } from './quotas';
import { recountShards, shardsOfRow } from './ses-shards';

/**
 * The constraint against a shard's having more identities than it may have, and against new ones in a shard that is
 * drained. DETAIL is the name of the shard.
 */
export const shardCapacity = 'ses_shard_capacity';

/**
 * Gives the function that counts the identities of each shard.
 *
 * @param shards the SQL expression for the shards in which a row of `domains` takes a place.
 */
const counting = (shards: string): string => {
  const places = (table: string, n: number) =>
    `SELECT shard, ${n} AS n FROM ${table}, unnest(${shards}) AS shard WHERE ${holding} AND shard IS NOT NULL`;
  const sums = (of: string) => `SELECT array_agg(shard ORDER BY shard), array_agg(n ORDER BY shard) INTO shards, changes
          FROM (SELECT shard, sum(n) AS n FROM (${of}) AS each GROUP BY shard HAVING sum(n) <> 0) AS changed;`;
  return `
      CREATE OR REPLACE FUNCTION count_for_shards() RETURNS trigger LANGUAGE plpgsql AS $$
      DECLARE shards text[]; changes integer[]; closed text;
      BEGIN
        IF TG_OP = 'INSERT' THEN
          ${sums(places('appeared', 1))}
        ELSIF TG_OP = 'DELETE' THEN
          ${sums(places('gone', -1))}
        ELSE
          ${sums(`${places('appeared', 1)} UNION ALL ${places('gone', -1)}`)}
        END IF;
        IF shards IS NULL THEN RETURN NULL; END IF;
        INSERT INTO ses_shards AS held (name, identities) SELECT * FROM unnest(shards, changes)
        ON CONFLICT (name) DO UPDATE SET identities = held.identities + excluded.identities;
        SELECT held.name INTO closed FROM unnest(shards, changes) AS changed (name, n) JOIN ses_shards AS held USING (name)
        WHERE changed.n > 0 AND (held.identities > held.capacity OR held.is_draining) LIMIT 1;
        IF FOUND THEN
          RAISE 'The shard takes no more identities' USING ERRCODE = 'check_violation', CONSTRAINT = '${shardCapacity}',
            DETAIL = closed;
        END IF;
        RETURN NULL;
      END $$`;
};

/**
 * Counts the identity in the other shard of a domain that moves: that which it moves to takes a place there from the
 * request on, and the old one keeps its place until it is removed.
 */
export class CountIdentitiesThatMove1797100000400 implements MigrationInterface {
  readonly name = 'CountIdentitiesThatMove1797100000400';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE domains ADD COLUMN ses_other_shard text, ADD COLUMN next_dkim json');
    await runner.query(counting(shardsOfRow));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(counting('ARRAY[ses_shard]'));
    await runner.query('ALTER TABLE domains DROP COLUMN ses_other_shard, DROP COLUMN next_dkim');
  }
}

/**
 * Counts the identities of each shard of SES in the transaction of the append that changes it, as `count_for_quotas`
 * counts the domains of teams. The triggers fire after those of the quotas, since triggers fire in the order of their
 * names, and lock the shards in the order of their names: so two statements cannot deadlock.
 *
 * `capacity` is NULL until a process has told its settings, and 0 of a shard that they have no more.
 */
export class CountIdentitiesOfShards1797100000200 implements MigrationInterface {
  readonly name = 'CountIdentitiesOfShards1797100000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE ses_shards (
        name text PRIMARY KEY,
        region text,
        capacity integer,
        identities integer NOT NULL DEFAULT 0,
        is_draining boolean NOT NULL DEFAULT false,
        errors bigint NOT NULL DEFAULT 0,
        last_error text,
        last_error_at timestamptz,
        failing_until timestamptz
      )`);
    await runner.query(counting('ARRAY[ses_shard]'));
    await runner.query(`
      CREATE TRIGGER domains_shard_counted_in AFTER INSERT ON domains REFERENCING NEW TABLE AS appeared
      FOR EACH STATEMENT EXECUTE FUNCTION count_for_shards()`);
    await runner.query(`
      CREATE TRIGGER domains_shard_counted_again AFTER UPDATE ON domains
      REFERENCING OLD TABLE AS gone NEW TABLE AS appeared FOR EACH STATEMENT EXECUTE FUNCTION count_for_shards()`);
    await runner.query(`
      CREATE TRIGGER domains_shard_counted_out AFTER DELETE ON domains REFERENCING OLD TABLE AS gone
      FOR EACH STATEMENT EXECUTE FUNCTION count_for_shards()`);
    // A trigger is created under a lock that stops the writers until the migration is committed.
    await recountShards(runner, 'domains', 'ARRAY[ses_shard]');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP FUNCTION count_for_shards CASCADE');
    await runner.query('DROP TABLE ses_shards');
  }
}
