import type { Connection } from '@app/database';

/** The task list of notices about endpoints, which the notifier mails to the owners of their teams. */
export const webhookNotices = 'webhook-notices';

/** Why we have disabled an endpoint. `gone`: it has answered 410. `failing`: nothing but failures for days. */
export type DisabledBecause = 'gone' | 'failing';

/** Tells that we have disabled an endpoint. Dates are ISO 8601 once they are read from the list. */
export interface WebhookNotice {
  readonly webhook: string;
  readonly team: string;
  readonly url: string;
  readonly because: DisabledBecause;
  /** The version of the endpoint with which it was disabled. */
  readonly version: number;
  readonly at: Date | string;
  /** The first failure after the last success. */
  readonly since: Date | string;
}

/** Gives the key of the task: one for each time that an endpoint is disabled. */
export const noticeKeyOf = ({ webhook, version }: Pick<WebhookNotice, 'webhook' | 'version'>): string =>
  `${webhook}/${version}`;

/** An endpoint that we have disabled. */
export interface DisabledWebhook {
  readonly id: string;
  readonly team: string;
  readonly url: string;
  readonly description: string | null;
  readonly because: DisabledBecause;
}

/** Finds an endpoint that we have disabled; undefined once it is enabled again, or gone. */
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
