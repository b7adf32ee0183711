import type { Connection, Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';
import { eventHashSql, hashedColumns, noHash } from './event-hash';
import { fenceSql, inFlightTag } from './in-flight';
import { partitionSmall } from './partitioning';
import { inArchive } from './partitions';

class CreateEvents1770000000000 implements MigrationInterface {
  readonly name = 'CreateEvents1770000000000';

  async up(runner: QueryRunner): Promise<void> {
    // The column is GENERATED ALWAYS, so that no position is drawn before the insert that uses it. The sequence has
    // CACHE 1, because a session that cached positions would use them long after the fence has passed them.
    await runner.query(`
      CREATE TABLE events (
        position bigint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME event_positions CACHE 1) PRIMARY KEY,
        stream text NOT NULL,
        version integer NOT NULL,
        type text NOT NULL,
        schema_version smallint NOT NULL,
        data json NOT NULL,
        metadata json NOT NULL,
        time timestamptz NOT NULL,
        CONSTRAINT events_stream_version UNIQUE (stream, version)
      )`);
    await runner.query(`
      CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'events are only ever added: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
      END $$`);
    await runner.query(`
      CREATE TRIGGER events_are_facts BEFORE UPDATE OR DELETE OR TRUNCATE ON events
      FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()`);
    // The lock is taken before the statement draws its first position, so every position it draws lies above the value
    // that the lock names. A sequence that was never used reports 1 although it has not given 1 out.
    await runner.query(`
      CREATE FUNCTION mark_append_in_flight() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        PERFORM pg_advisory_xact_lock_shared((${inFlightTag}::bigint << 48) | (last_value - (NOT is_called)::int)) FROM event_positions;
        RETURN NULL;
      END $$`);
    await runner.query(`
      CREATE TRIGGER events_in_flight BEFORE INSERT ON events
      FOR EACH STATEMENT EXECUTE FUNCTION mark_append_in_flight()`);
    await runner.query(`
      CREATE TABLE checkpoints (
        name text PRIMARY KEY,
        position bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now()
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE checkpoints');
    await runner.query('DROP TABLE events');
    await runner.query('DROP FUNCTION refuse_event_change(), mark_append_in_flight()');
  }
}

/** Gives each event a hash over all of it and over the hash before it in its stream. */
class ChainEvents1795700000000 implements MigrationInterface {
  readonly name = 'ChainEvents1795700000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE events ADD COLUMN previous bytea, ADD COLUMN hash bytea');
    await runner.query('ALTER TABLE events DISABLE TRIGGER events_are_facts');
    await runner.query(`
      DO $$
      DECLARE
        event events%ROWTYPE;
        before bytea;
      BEGIN
        FOR event IN SELECT * FROM events ORDER BY stream, version LOOP
          IF event.version = 1 THEN before := '\\x${noHash.toString('hex')}'; END IF;
          event.previous := before;
          before := ${eventHashSql(Object.fromEntries(hashedColumns.map((name) => [name, `event.${name}`])))};
          UPDATE events SET previous = event.previous, hash = before WHERE position = event.position;
        END LOOP;
      END $$`);
    await runner.query('ALTER TABLE events ENABLE TRIGGER events_are_facts');
    await runner.query('ALTER TABLE events ALTER COLUMN previous SET NOT NULL, ALTER COLUMN hash SET NOT NULL');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE events DROP COLUMN hash, DROP COLUMN previous');
  }
}

/** Creates what is kept about partitions, for a log that has them and one that does not have them yet. */
class CreateEventPartitions1797100000000 implements MigrationInterface {
  readonly name = 'CreateEventPartitions1797100000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE event_partitions (
        number integer PRIMARY KEY,
        lower bigint NOT NULL UNIQUE,
        upper bigint NOT NULL UNIQUE CHECK (upper > lower),
        is_open boolean NOT NULL DEFAULT false,
        is_indexed boolean NOT NULL DEFAULT false,
        indexed_after text
      )`);
    // One row for a stream and a closed partition in which it has events: where they are, and the newest of them.
    await runner.query(`
      CREATE TABLE stream_spans (
        stream text NOT NULL,
        first_position bigint NOT NULL,
        last_position bigint NOT NULL,
        last_version integer NOT NULL,
        last_hash bytea NOT NULL,
        PRIMARY KEY (stream, last_position)
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE stream_spans, event_partitions');
  }
}

/**
 * Partitions a log that is new or small. `sendmux events partition` does it to a large one, which takes long and waits
 * for nobody.
 */
class PartitionSmallLogs1797100000100 implements MigrationInterface {
  readonly name = 'PartitionSmallLogs1797100000100';

  async up(runner: QueryRunner): Promise<void> {
    // The connection of the migration's own transaction.
    await partitionSmall((await runner.connect()) as Connection);
  }

  async down(): Promise<void> {
    // The release before reads a log in partitions as well.
  }
}

/**
 * Lets `replaceData` change events, in its own transaction and for whoever could disable the trigger. A trigger that is
 * disabled would be so for all transactions, and hold up all appends.
 */
class LetEventsBeAmended1798000000500 implements MigrationInterface {
  readonly name = 'LetEventsBeAmended1798000000500';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE OR REPLACE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_OP = 'UPDATE' AND current_setting('sendmux.amending', true) = 'on'
          AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')
        THEN RETURN NULL; END IF;
        RAISE EXCEPTION 'events are only ever added: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
      END $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE OR REPLACE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'events are only ever added: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
      END $$`);
  }
}

/** Creates what is kept about archives of partitions. */
class CreateEventArchives1798100000000 implements MigrationInterface {
  readonly name = 'CreateEventArchives1798100000000';

  async up(runner: QueryRunner): Promise<void> {
    // `is_thin` once the partition has only what stays of it, or is gone.
    await runner.query(`
      CREATE TABLE event_archives (
        number integer PRIMARY KEY REFERENCES event_partitions,
        lower bigint NOT NULL UNIQUE,
        upper bigint NOT NULL UNIQUE,
        file text NOT NULL,
        sha256 bytea NOT NULL,
        octets bigint NOT NULL,
        events bigint NOT NULL,
        from_time timestamptz NOT NULL,
        to_time timestamptz NOT NULL,
        block_positions bigint[] NOT NULL,
        block_offsets bigint[] NOT NULL,
        archived_at timestamptz NOT NULL DEFAULT now(),
        is_thin boolean NOT NULL DEFAULT false
      )`);
    // Where the events of a stream are in the file of the archive, from 1; null while they are in the partition.
    await runner.query('ALTER TABLE stream_spans ADD COLUMN blocks integer[]');
    await runner.query(`
      CREATE FUNCTION refuse_archived(stream text) RETURNS bigint LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'events of % are in an archive', stream USING ERRCODE = '${inArchive}';
      END $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP FUNCTION refuse_archived(text)');
    await runner.query('ALTER TABLE stream_spans DROP COLUMN blocks');
    await runner.query('DROP TABLE event_archives');
  }
}

/**
 * Gives the log an identity, and its first epoch. Releases before this one know nothing of either, and go on: until the
 * log is restored to an earlier moment, no event names an epoch.
 */
class CreateLogEpochs1799100000000 implements MigrationInterface {
  readonly name = 'CreateLogEpochs1799100000000';

  async up(runner: QueryRunner): Promise<void> {
    // Epoch 1 begins after 0. `up_to` is the newest event that a restored log had, `goes_on_after` the position
    // after which it went on, and `lost_from` the time at which the lost history begins.
    await runner.query(`
      CREATE TABLE log_epochs (
        epoch bigint PRIMARY KEY,
        log_id text NOT NULL,
        after_position bigint NOT NULL,
        up_to bigint,
        goes_on_after bigint,
        lost_from timestamptz,
        restored_at timestamptz,
        reason text
      )`);
    // The timeline of the write-ahead log on which event-relay has last published: another one after a restore, or a
    // fail-over.
    await runner.query('ALTER TABLE checkpoints ADD COLUMN timeline text');
    // A log that is sealed has an identity in its seals already: the second line of their statements.
    await runner.query(`
      DO $$
      DECLARE id text := replace(gen_random_uuid()::text, '-', '');
      BEGIN
        IF to_regclass('audit_seals') IS NOT NULL THEN
          EXECUTE 'SELECT coalesce((SELECT substring(statement FROM E''\nlog (\\w{1,64})\n'')
            FROM audit_seals ORDER BY number DESC LIMIT 1), $1)' INTO id USING id;
        END IF;
        INSERT INTO log_epochs (epoch, log_id, after_position) VALUES (1, id, 0);
      END $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE checkpoints DROP COLUMN timeline');
    await runner.query('DROP TABLE log_epochs');
  }
}

/** Lets readers have the fence and the events below it by one statement. */
class ReadLogByPages1800100000000 implements MigrationInterface {
  readonly name = 'ReadLogByPages1800100000000';

  async up(runner: QueryRunner): Promise<void> {
    // The events have to be read after the fence by a snapshot of their own, since an append that ends between the two
    // would be below the fence and not in the snapshot. A function that is VOLATILE takes one for each statement.
    await runner.query(`
      CREATE FUNCTION log_page(after bigint, most integer) RETURNS TABLE (
        drawn float8, first float8, standby boolean,
        "position" bigint, stream text, version integer, type text, schema_version smallint, data json, metadata json,
        "time" timestamptz
      ) LANGUAGE plpgsql VOLATILE AS $$
      #variable_conflict use_column
      DECLARE
        settled bigint;
      BEGIN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
          RAISE EXCEPTION 'the log is read under READ COMMITTED alone';
        END IF;
        SELECT fence.drawn, fence.first, fence.standby INTO drawn, first, standby FROM (${fenceSql}) AS fence;
        RETURN NEXT;
        settled := least(drawn, first);
        IF settled > after THEN
          RETURN QUERY SELECT NULL::float8, NULL::float8, NULL::boolean, events.position, events.stream, events.version,
              events.type, events.schema_version, events.data, events.metadata, events.time
            FROM events WHERE events.position > after AND events.position <= settled
            ORDER BY events.position LIMIT most;
        END IF;
      END $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP FUNCTION log_page(bigint, integer)');
  }
}

export const eventStoreMigrations: readonly Migration[] = [
  CreateEvents1770000000000,
  ChainEvents1795700000000,
  CreateEventPartitions1797100000000,
  PartitionSmallLogs1797100000100,
  LetEventsBeAmended1798000000500,
  CreateEventArchives1798100000000,
  CreateLogEpochs1799100000000,
  ReadLogByPages1800100000000,
];
