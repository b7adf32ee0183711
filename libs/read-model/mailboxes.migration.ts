import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The unique index that reserves an address. */
export const addressReservation = 'mailboxes_address_reserved';
/** The unique index that allows a team one mailbox on the shared domain. */
export const oneSharedMailbox = 'mailboxes_one_shared';
/**
 * The constraint against creating a mailbox on a domain that is not verified, or not the team's. DETAIL is the domain's
 * status, if it is the team's.
 */
export const liveHome = 'mailboxes_live_home';
/** The constraint against deleting a domain that has mailboxes. DETAIL is their number. */
export const noMailboxLeft = 'domains_no_mailbox_left';

/**
 * Enforces the rule between a mailbox and its domain, which are two streams, under the lock of the domain's row.
 * Creating a mailbox holds the lock shared until the commit; beginning the deletion of the domain holds it exclusively.
 * The second of the two waits, and sees what the first has committed.
 */
class CreateMailboxes1795600000100 implements MigrationInterface {
  readonly name = 'CreateMailboxes1795600000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE mailboxes (
        id text PRIMARY KEY,
        address text NOT NULL,
        team text NOT NULL,
        domain_id text,
        status text NOT NULL,
        outbound_provider text,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        version integer NOT NULL
      )`);
    await runner.query(`CREATE UNIQUE INDEX ${addressReservation} ON mailboxes (address) WHERE status <> 'deleted'`);
    await runner.query(
      `CREATE UNIQUE INDEX ${oneSharedMailbox} ON mailboxes (team) WHERE domain_id IS NULL AND status <> 'deleted'`,
    );
    await runner.query(`CREATE INDEX mailboxes_of_team ON mailboxes (team, id) WHERE status <> 'deleted'`);
    await runner.query(`CREATE INDEX mailboxes_of_domain ON mailboxes (domain_id) WHERE status <> 'deleted'`);
    // An AFTER trigger, since a BEFORE INSERT trigger also fires for the updates of an upsert.
    await runner.query(`
      CREATE FUNCTION mailbox_needs_live_home() RETURNS trigger LANGUAGE plpgsql AS $$
      DECLARE found text;
      BEGIN
        SELECT status INTO found FROM domains WHERE id = NEW.domain_id AND team = NEW.team AND status <> 'deleted' FOR SHARE;
        IF found IS DISTINCT FROM 'verified' THEN
          RAISE 'A mailbox is created on a verified domain of its team'
            USING ERRCODE = 'check_violation', CONSTRAINT = '${liveHome}', DETAIL = coalesce(found, '');
        END IF;
        RETURN NULL;
      END $$`);
    await runner.query(`
      CREATE TRIGGER ${liveHome} AFTER INSERT ON mailboxes FOR EACH ROW
      WHEN (NEW.domain_id IS NOT NULL) EXECUTE FUNCTION mailbox_needs_live_home()`);
    await runner.query(`
      CREATE FUNCTION domain_goes_last() RETURNS trigger LANGUAGE plpgsql AS $$
      DECLARE found integer;
      BEGIN
        SELECT count(*) INTO found FROM mailboxes WHERE domain_id = NEW.id AND status <> 'deleted';
        IF found > 0 THEN
          RAISE 'A domain with mailboxes is not deleted'
            USING ERRCODE = 'check_violation', CONSTRAINT = '${noMailboxLeft}', DETAIL = found::text;
        END IF;
        RETURN NULL;
      END $$`);
    await runner.query(`
      CREATE TRIGGER ${noMailboxLeft} AFTER UPDATE ON domains FOR EACH ROW
      WHEN (NEW.status = 'deleting' AND OLD.status <> 'deleting') EXECUTE FUNCTION domain_goes_last()`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP TRIGGER ${noMailboxLeft} ON domains`);
    await runner.query('DROP TABLE mailboxes');
    await runner.query('DROP FUNCTION domain_goes_last, mailbox_needs_live_home');
  }
}

/** Adds display names, and an index by which a team reads its deleted mailboxes too. */
class NameMailboxes1796300000100 implements MigrationInterface {
  readonly name = 'NameMailboxes1796300000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE mailboxes ADD COLUMN display_name text');
    await runner.query('CREATE INDEX mailboxes_ever_of_team ON mailboxes (team, id)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX mailboxes_ever_of_team');
    await runner.query('ALTER TABLE mailboxes DROP COLUMN display_name');
  }
}

/** Finds the mailboxes that a domain had at an earlier time, and has no longer. */
export class FindDeletedMailboxes1797000000200 implements MigrationInterface {
  readonly name = 'FindDeletedMailboxes1797000000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(
      `CREATE INDEX mailboxes_deleted_of_domain ON mailboxes (domain_id, updated_at) WHERE status = 'deleted'`,
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX mailboxes_deleted_of_domain');
  }
}

/** Lets a mailbox whose personal data are erased have no address. */
export class EraseAddresses1798000000200 implements MigrationInterface {
  readonly name = 'EraseAddresses1798000000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE mailboxes ALTER COLUMN address DROP NOT NULL');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE mailboxes ALTER COLUMN address SET NOT NULL');
  }
}

export const mailboxMigrations = [CreateMailboxes1795600000100, NameMailboxes1796300000100];
