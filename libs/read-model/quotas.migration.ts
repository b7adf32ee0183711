import type { MigrationInterface, QueryRunner } from 'typeorm';
import { holding, quotaKinds, recountQuotas } from './quotas';

/** The constraint against a team's having more than it may have. DETAIL is `current/limit`. */
export const teamQuota = 'team_quota';
/** The constraint against all teams' having more together than the installation may have. DETAIL is `current/limit`. */
export const installationQuota = 'installation_quota';

/**
 * Counts what each team has, and what all teams have together, in the transaction of the append that changes it. The
 * row of a team is locked until the commit, so that of two creations for the last place the second one finds none.
 *
 * The triggers fire once a statement, after all others, and lock the teams in the order of their ids and the common row
 * last. So two statements that change many teams cannot deadlock.
 */
export class CountForQuotas1796500000100 implements MigrationInterface {
  readonly name = 'CountForQuotas1796500000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE team_quotas (
        kind text NOT NULL,
        team text NOT NULL,
        used integer NOT NULL DEFAULT 0,
        allowed integer,
        PRIMARY KEY (kind, team)
      )`);
    // Without `used` nothing is counted in all, which spares the creations of all teams the lock of one row.
    await runner.query(
      'CREATE TABLE common_quotas (kind text PRIMARY KEY, per_team integer, in_all integer, used integer)',
    );
    await runner.query(`INSERT INTO common_quotas (kind, used) VALUES ('domains', 0), ('mailboxes', NULL)`);
    await runner.query(`
      CREATE FUNCTION count_for_quotas() RETURNS trigger LANGUAGE plpgsql AS $$
      DECLARE teams text[]; changes integer[]; change integer; beyond record;
      BEGIN
        IF TG_OP = 'INSERT' THEN
          SELECT array_agg(team ORDER BY team), array_agg(n ORDER BY team) INTO teams, changes
          FROM (SELECT team, count(*) AS n FROM appeared WHERE ${holding} GROUP BY team) AS changed;
        ELSIF TG_OP = 'DELETE' THEN
          SELECT array_agg(team ORDER BY team), array_agg(n ORDER BY team) INTO teams, changes
          FROM (SELECT team, -count(*) AS n FROM gone WHERE ${holding} GROUP BY team) AS changed;
        ELSE
          SELECT array_agg(team ORDER BY team), array_agg(n ORDER BY team) INTO teams, changes
          FROM (
            SELECT team, sum(n) AS n FROM (
              SELECT team, 1 AS n FROM appeared WHERE ${holding} UNION ALL SELECT team, -1 FROM gone WHERE ${holding}
            ) AS both_of_them GROUP BY team HAVING sum(n) <> 0
          ) AS changed;
        END IF;
        IF teams IS NULL THEN RETURN NULL; END IF;

        INSERT INTO team_quotas AS held (kind, team, used)
        SELECT TG_ARGV[0], changed.* FROM unnest(teams, changes) AS changed
        ON CONFLICT (kind, team) DO UPDATE SET used = held.used + excluded.used;
        SELECT held.used - changed.n AS current, coalesce(held.allowed, common.per_team) AS most INTO beyond
        FROM unnest(teams, changes) AS changed (team, n)
        JOIN team_quotas AS held ON held.kind = TG_ARGV[0] AND held.team = changed.team
        JOIN common_quotas AS common ON common.kind = TG_ARGV[0]
        WHERE changed.n > 0 AND held.used > coalesce(held.allowed, common.per_team) LIMIT 1;
        IF FOUND THEN
          RAISE 'A team has no more than it may have' USING ERRCODE = 'check_violation', CONSTRAINT = '${teamQuota}',
            DETAIL = concat(beyond.current, '/', beyond.most);
        END IF;

        SELECT sum(n) INTO change FROM unnest(changes) AS n;
        UPDATE common_quotas AS common SET used = common.used + change
        WHERE common.kind = TG_ARGV[0] AND common.used IS NOT NULL AND change <> 0
        RETURNING common.used - change AS current, common.in_all AS most INTO beyond;
        IF FOUND AND change > 0 AND beyond.current + change > beyond.most THEN
          RAISE 'All teams have no more than there may be' USING ERRCODE = 'check_violation',
            CONSTRAINT = '${installationQuota}', DETAIL = concat(beyond.current, '/', beyond.most);
        END IF;
        RETURN NULL;
      END $$`);
    for (const kind of quotaKinds) {
      await runner.query(`
        CREATE TRIGGER ${kind}_counted_in AFTER INSERT ON ${kind} REFERENCING NEW TABLE AS appeared
        FOR EACH STATEMENT EXECUTE FUNCTION count_for_quotas('${kind}')`);
      await runner.query(`
        CREATE TRIGGER ${kind}_counted_again AFTER UPDATE ON ${kind} REFERENCING OLD TABLE AS gone NEW TABLE AS appeared
        FOR EACH STATEMENT EXECUTE FUNCTION count_for_quotas('${kind}')`);
      await runner.query(`
        CREATE TRIGGER ${kind}_counted_out AFTER DELETE ON ${kind} REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION count_for_quotas('${kind}')`);
      // A trigger is created under a lock that stops the writers until the migration is committed.
      await recountQuotas(runner, kind);
    }
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP FUNCTION count_for_quotas CASCADE');
    await runner.query('DROP TABLE team_quotas, common_quotas');
  }
}
