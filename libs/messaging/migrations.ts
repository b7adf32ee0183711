import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateParkedMessages1795400000200 implements MigrationInterface {
  readonly name = 'CreateParkedMessages1795400000200';

  async up(runner: QueryRunner): Promise<void> {
    // The payload is the whole event as the group received it. Its type is json, since jsonb refuses \\u0000.
    await runner.query(`
      CREATE TABLE parked_messages (
        consumer_group text NOT NULL,
        position bigint NOT NULL,
        stream text NOT NULL,
        version int NOT NULL,
        type text NOT NULL,
        payload json NOT NULL,
        error text NOT NULL,
        attempts int NOT NULL,
        parked_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer_group, position)
      )`);
    await runner.query('CREATE INDEX parked_messages_by_stream ON parked_messages (stream, version)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE parked_messages');
  }
}

/**
 * Gives messages the same name on every transport, allows messages that are not events, and lets an operator request a
 * redrive.
 */
class NameParkedMessages1795470000200 implements MigrationInterface {
  readonly name = 'NameParkedMessages1795470000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE parked_messages
        ADD COLUMN message text,
        ADD COLUMN raw json,
        ADD COLUMN redrive_asked_at timestamptz`);
    await runner.query(`UPDATE parked_messages SET message = stream || '/' || version`);
    await runner.query('ALTER TABLE parked_messages RENAME COLUMN payload TO event');
    await runner.query(`
      ALTER TABLE parked_messages
        DROP CONSTRAINT parked_messages_pkey,
        ADD PRIMARY KEY (consumer_group, message),
        ALTER COLUMN type DROP NOT NULL,
        ALTER COLUMN event DROP NOT NULL,
        ADD CHECK ((event IS NULL) <> (raw IS NULL)),
        DROP COLUMN position,
        DROP COLUMN stream,
        DROP COLUMN version`);
    await runner.query(
      'CREATE INDEX parked_messages_to_redrive ON parked_messages (consumer_group) WHERE redrive_asked_at IS NOT NULL',
    );
  }

  down(): Promise<void> {
    return Promise.reject(new Error('What is parked since has no position in the log to go back to.'));
  }
}

/**
 * Names the stream and the position of parked events in columns, so that those of one stream are found in their order.
 */
class OrderParkedMessages1795900000200 implements MigrationInterface {
  readonly name = 'OrderParkedMessages1795900000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE parked_messages ADD COLUMN stream text, ADD COLUMN position bigint');
    // The document may hold a \\u0000, of which json gives no member as text.
    await runner.query(`
      UPDATE parked_messages AS parked SET stream = events.stream, position = events.position
      FROM events WHERE parked.event IS NOT NULL AND parked.message = events.stream || '/' || events.version`);
    await runner.query('CREATE INDEX parked_messages_in_order ON parked_messages (consumer_group, stream, position)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE parked_messages DROP COLUMN stream, DROP COLUMN position');
  }
}

/** Stores replays and how far each has come. */
class CreateReplays1795700000300 implements MigrationInterface {
  readonly name = 'CreateReplays1795700000300';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE replays (
        id text PRIMARY KEY,
        topic text NOT NULL,
        selection json NOT NULL,
        published_up_to bigint NOT NULL,
        up_to bigint NOT NULL,
        began_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE replays');
  }
}

/** Keeps beside the effects of a consumer how far it has come on Kafka, since a restore takes both back together. */
class KeepKafkaOffsets1799100000100 implements MigrationInterface {
  readonly name = 'KeepKafkaOffsets1799100000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE kafka_offsets (
        consumer_group text NOT NULL,
        topic text NOT NULL,
        partition integer NOT NULL,
        next_offset bigint NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer_group, topic, partition)
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE kafka_offsets');
  }
}

export const messagingMigrations: readonly Migration[] = [
  CreateParkedMessages1795400000200,
  NameParkedMessages1795470000200,
  CreateReplays1795700000300,
  OrderParkedMessages1795900000200,
  KeepKafkaOffsets1799100000100,
];
