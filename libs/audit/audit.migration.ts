import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateAuditSeals1795700000100 implements MigrationInterface {
  readonly name = 'CreateAuditSeals1795700000100';

  async up(runner: QueryRunner): Promise<void> {
    // The leaves could be read from the events as well. They are stored so that a verification can name the event that
    // is not the sealed one.
    await runner.query(`
      CREATE TABLE audit_seals (
        number integer PRIMARY KEY,
        up_to bigint NOT NULL UNIQUE,
        statement text NOT NULL,
        signer text NOT NULL,
        signature text NOT NULL,
        leaves bytea NOT NULL
      )`);
    await runner.query('ALTER TABLE audit_seals ALTER COLUMN leaves SET STORAGE EXTERNAL');
    await runner.query(`
      CREATE FUNCTION refuse_seal_change() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'seals are only ever added: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
      END $$`);
    await runner.query(`
      CREATE TRIGGER seals_are_facts BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seals
      FOR EACH STATEMENT EXECUTE FUNCTION refuse_seal_change()`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE audit_seals');
    await runner.query('DROP FUNCTION refuse_seal_change()');
  }
}

/** Keeps what was changed in events that were recorded, with a signed statement that says why. */
class CreateAmendments1798000000400 implements MigrationInterface {
  readonly name = 'CreateAmendments1798000000400';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE audit_amendments (
        number integer PRIMARY KEY,
        statement text NOT NULL,
        signer text NOT NULL,
        signature text NOT NULL
      )`);
    await runner.query(`
      CREATE TABLE audit_amended_events (
        position bigint NOT NULL,
        number integer NOT NULL REFERENCES audit_amendments,
        before bytea NOT NULL,
        after bytea NOT NULL,
        PRIMARY KEY (position, number)
      )`);
    await runner.query('CREATE INDEX audit_amended_events_of ON audit_amended_events (number, position)');
    for (const table of ['audit_amendments', 'audit_amended_events'])
      await runner.query(`
        CREATE TRIGGER amendments_are_facts BEFORE UPDATE OR DELETE OR TRUNCATE ON ${table}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_seal_change()`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE audit_amended_events, audit_amendments');
  }
}

/** Keeps the signed statements that the log was taken back to an earlier moment. */
class CreateRestorations1799100000200 implements MigrationInterface {
  readonly name = 'CreateRestorations1799100000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE audit_restorations (
        epoch bigint PRIMARY KEY,
        statement text NOT NULL,
        signer text NOT NULL,
        signature text NOT NULL
      )`);
    await runner.query(`
      CREATE TRIGGER restorations_are_facts BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_restorations
      FOR EACH STATEMENT EXECUTE FUNCTION refuse_seal_change()`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE audit_restorations');
  }
}

export const auditMigrations: readonly Migration[] = [
  CreateAuditSeals1795700000100,
  CreateAmendments1798000000400,
  CreateRestorations1799100000200,
];
