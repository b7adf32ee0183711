/** Lets time pass by tables: what is done is made as old as it has to be for its removal. */
import { openPool } from '@app/database';
import { newId } from '@app/runtime';
import { senderRulesLookMs, senderRulesTasks } from '@app/sender-rules';
import { keptMs } from '@app/webhooks';
import type { Pool } from 'pg';
import { ownName } from './samples';

/** Milliseconds after which what is done is old; the soak itself asks for nothing later than that. */
const oldAfter = `interval '1 minute'`;

/** How long after a change of sender rules those that were replaced are looked for, in SQL. */
const look = `${senderRulesLookMs} * interval '1 ms'`;
const rulesAreDue = (within: string) =>
  `UPDATE tasks SET due = now() WHERE list = '${senderRulesTasks}' AND lease_token IS NULL
   AND due > now() AND due < now() + ${within}`;

/** Makes what each statement is about older than it may become, in whole, or not at all. */
const statements: readonly string[] = [
  // Answers are kept for 24 hours.
  `UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'
   WHERE created_at BETWEEN now() - interval '20 hours' AND now() - ${oldAfter} AND claimed_until < now()`,
  // Links are kept for a day after their end, so that their mails are counted.
  `UPDATE setup_links SET created_at = created_at - interval '2 days', expires_at = now() - interval '1 second'
   WHERE created_at BETWEEN now() - interval '1 day' AND now() - ${oldAfter}`,
  `UPDATE console_sessions SET expires_at = now()
   WHERE created_at < now() - ${oldAfter} AND expires_at > now()`,
  `UPDATE invitations SET expires_at = now() WHERE created_at < now() - ${oldAfter} AND expires_at > now()`,
  // Claims are kept for 90 days after their end.
  `UPDATE domain_claims SET expires_at = expires_at - interval '120 days'
   WHERE created_at < now() - interval '5 minutes' AND expires_at > now() - interval '90 days'`,
  `UPDATE webhooks SET old_secret_until = now()
   WHERE old_secret_until > now() AND updated_at < now() - ${oldAfter}`,
  `UPDATE mailbox_keys SET wanted_at = wanted_at - interval '2 hours'
   WHERE wanted_at BETWEEN now() - interval '1 hour' AND now() - ${oldAfter}`,
  `UPDATE sender_rules SET stored_at = stored_at - interval '2 hours'
   WHERE stored_at BETWEEN now() - interval '1 hour' AND now() - ${oldAfter}`,
  rulesAreDue(`${look} - ${oldAfter}`),
];

export class Time {
  private readonly pool: Pool;

  constructor(databaseUrl: string) {
    this.pool = openPool(databaseUrl, 1, 30_000, { application_name: ownName });
  }

  async pass(): Promise<void> {
    for (const statement of statements) await this.pool.query(statement);
    // The id of a delivery says how old it is.
    const old = newId('wdlv', Date.now() - keptMs - 86_400_000).slice(0, -16);
    await this.pool.query(
      `UPDATE webhook_deliveries SET id = $1 || right(id, 16)
       WHERE status <> 'waiting' AND tried_at < now() - ${oldAfter} AND id > $1 || '~'`,
      [old],
    );
  }

  /** Ends the waits after failures, for an installation that comes to rest. */
  async endWaits(): Promise<void> {
    await this.pool.query('UPDATE tasks SET due = now() WHERE attempts > 0 AND lease_token IS NULL AND due > now()');
    await this.pool.query(rulesAreDue(look));
    await this.pool.query('UPDATE webhook_queues SET due = now() WHERE due > now()');
    await this.pool.query('UPDATE webhook_lanes SET due = now(), paused_until = NULL WHERE due > now()');
  }

  /** Gives what is still to be done; empty at rest. */
  async busy(): Promise<string> {
    const { rows } = await this.pool.query<{ busy: string }>(`
      SELECT concat_ws('; ',
        (SELECT string_agg(list || ' ' || key || ' ' || coalesce(last_error, ''), ', ') FROM tasks),
        (SELECT string_agg(id || ' ' || status, ', ') FROM domains
          WHERE status IN ('provisioning', 'rolling_back', 'deleting', 'released')),
        (SELECT count(*) || ' deliveries' FROM webhook_deliveries WHERE status = 'waiting' HAVING count(*) > 0),
        (SELECT string_agg(name, ', ') FROM checkpoints
          WHERE position < (SELECT coalesce(max(position), 0) FROM events))) AS busy`);
    return rows[0]!.busy;
  }

  async end(): Promise<void> {
    await this.pool.end();
  }
}
