import type { Migration } from '@app/database';
import type { MigrationInterface, QueryRunner } from 'typeorm';

class CreateWebhooks1797000000100 implements MigrationInterface {
  readonly name = 'CreateWebhooks1797000000100';

  async up(runner: QueryRunner): Promise<void> {
    // The endpoints. `event_types` and `domains` are null for all, those included that are added later. Events at or
    // below `from_position` are not delivered: they are older than the endpoint, or than its last change to enabled.
    // `failing_since` is the first failure after the last success. Secrets are nonce, ciphertext and tag of
    // AES-256-GCM; `rotation` is the id of the last rotation, so that one that is repeated is known.
    await runner.query(`
      CREATE TABLE webhooks (
        id text PRIMARY KEY,
        team text NOT NULL,
        url text NOT NULL,
        description text,
        event_types text[],
        domains text[],
        enabled boolean NOT NULL,
        disabled_because text CHECK (disabled_because IN ('gone', 'failing')),
        from_position bigint NOT NULL,
        failing_since timestamptz,
        secret bytea NOT NULL,
        secret_key_id text NOT NULL,
        old_secret bytea,
        old_secret_key_id text,
        old_secret_until timestamptz,
        rotation text,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        version integer NOT NULL DEFAULT 1
      )`);
    await runner.query('CREATE INDEX webhooks_of_team ON webhooks (team, id)');
    // What is sent, one row for each endpoint and message. `message` is the id of the event, such as `mdom_…/12`.
    // Ids sort by age, so that the primary key serves lists and the removal of the old.
    await runner.query(`
      CREATE TABLE webhook_deliveries (
        webhook text NOT NULL,
        id text NOT NULL,
        lane text NOT NULL CHECK (lane IN ('live', 'replay', 'requested')),
        replay text NOT NULL DEFAULT '',
        message text NOT NULL,
        type text NOT NULL,
        subject text NOT NULL,
        version integer NOT NULL,
        position bigint NOT NULL,
        occurred_at timestamptz NOT NULL,
        status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'delivered', 'failed')),
        tries integer NOT NULL DEFAULT 0,
        tried_at timestamptz,
        duration_ms integer,
        response_status integer,
        response bytea,
        error text,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (webhook, id),
        UNIQUE (webhook, replay, message)
      )`);
    await runner.query(`
      CREATE INDEX webhook_deliveries_waiting ON webhook_deliveries (webhook, lane, subject, position)
      WHERE status = 'waiting'`);
    // The subjects of a lane for which deliveries wait. `due` is the time of the next try of the first of them, and
    // `additions` the count of the lane when something was last put on, so that a queue is removed only as it was read:
    // one that was removed and is there again has another count.
    await runner.query(`
      CREATE TABLE webhook_queues (
        webhook text NOT NULL,
        lane text NOT NULL,
        subject text NOT NULL,
        due timestamptz NOT NULL DEFAULT now(),
        additions bigint NOT NULL,
        PRIMARY KEY (webhook, lane, subject)
      )`);
    await runner.query('CREATE INDEX webhook_queues_due ON webhook_queues (webhook, lane, due)');
    // One process at a time works on a lane, while it holds the lease. `due` is null while nothing waits; `failures`
    // are those since the last success, after which the lane may be paused. `additions` counts what was put on, so that
    // a lane becomes idle only as it was read.
    await runner.query(`
      CREATE TABLE webhook_lanes (
        webhook text NOT NULL,
        lane text NOT NULL,
        due timestamptz,
        additions bigint NOT NULL DEFAULT 0,
        failures integer NOT NULL DEFAULT 0,
        paused_until timestamptz,
        lease_token uuid,
        lease_until timestamptz,
        PRIMARY KEY (webhook, lane)
      )`);
    await runner.query('CREATE INDEX webhook_lanes_due ON webhook_lanes (due) WHERE due IS NOT NULL');
    // Everything above `after` and up to `up_to` is still to be put on the queues, from the time `due` on, by the
    // process that holds the lease.
    await runner.query(`
      CREATE TABLE webhook_replays (
        id text PRIMARY KEY,
        webhook text NOT NULL,
        from_time timestamptz NOT NULL,
        to_time timestamptz NOT NULL,
        event_types text[],
        domains text[],
        begins_after bigint NOT NULL,
        after bigint NOT NULL,
        up_to bigint NOT NULL,
        queued integer NOT NULL DEFAULT 0,
        delivered integer NOT NULL DEFAULT 0,
        failed integer NOT NULL DEFAULT 0,
        status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'stopped', 'completed')),
        due timestamptz NOT NULL DEFAULT now(),
        lease_token uuid,
        lease_until timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz
      )`);
    await runner.query(
      `CREATE UNIQUE INDEX webhook_replays_running ON webhook_replays (webhook) WHERE status = 'running'`,
    );
    await runner.query('CREATE INDEX webhook_replays_of_webhook ON webhook_replays (webhook, id)');
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const table of ['webhook_replays', 'webhook_lanes', 'webhook_queues', 'webhook_deliveries', 'webhooks'])
      await runner.query(`DROP TABLE ${table}`);
  }
}

/** Customers look for what has failed, among all that was delivered. */
class IndexFailedDeliveries1797600000100 implements MigrationInterface {
  readonly name = 'IndexFailedDeliveries1797600000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (webhook, id) WHERE status = 'failed'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX webhook_deliveries_failed');
  }
}

/** Old processes beside new ones neither write nor read the column. */
class TraceDeliveries1799000000200 implements MigrationInterface {
  readonly name = 'TraceDeliveries1799000000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE webhook_deliveries ADD COLUMN traceparent text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE webhook_deliveries DROP COLUMN traceparent');
  }
}

export const webhooksMigrations: readonly Migration[] = [
  CreateWebhooks1797000000100,
  IndexFailedDeliveries1797600000100,
  TraceDeliveries1799000000200,
];
