import type { Connection } from '@app/database';

/** The task list of webhooks that were disabled; the notifier mails the owners of their teams. */
export const webhookNoticeTasks = 'webhook-notices';

/** Why deliveries have disabled a webhook: it answered 410, or nothing but failures came for five days. */
export type DisabledBecause = 'gone' | 'failing';

/** Which webhook was disabled, and when (ISO 8601). */
export interface WebhookNotice {
  readonly webhook: string;
  readonly at: string;
}

/** A webhook that deliveries have disabled. */
export interface DisabledWebhook {
  readonly id: string;
  readonly team: string;
  readonly url: string;
  readonly description: string | null;
  readonly because: DisabledBecause;
}

/** Finds a webhook that deliveries have disabled; undefined once it is enabled again, or gone. */
export async function findDisabled(
  database: Pick<Connection, 'query'>,
  id: string,
): Promise<DisabledWebhook | undefined> {
  const { rows } = await database.query<DisabledWebhook>(
    `SELECT id, team, url, description, disabled_because AS because FROM webhooks
      WHERE id = $1 AND NOT enabled AND disabled_because IS NOT NULL`,
    [id],
  );
  return rows[0];
}
