import { inTransaction, type Connection } from '@app/database';
import type { SealedSecret } from '@app/secret-keys';
import type { Pool } from 'pg';
import type { DisabledBecause } from './notices';
import { newSecret, type SecretKeys } from './secret-keys';

/** An endpoint of a team, to which messages are sent. */
export interface Webhook {
  readonly id: string;
  readonly team: string;
  readonly url: string;
  readonly description: string | null;
  /** Null for all types, those included that are added later. */
  readonly eventTypes: readonly string[] | null;
  /** Ids; null for all domains of the team. */
  readonly domains: readonly string[] | null;
  readonly enabled: boolean;
  /** Null while it is enabled, and where it was disabled by somebody. */
  readonly disabledBecause: DisabledBecause | null;
  /** The first failure after the last success; null while deliveries succeed. */
  readonly failingSince: Date | null;
  /** The end of a rotation, until which the secret before it signs as well; null where there is none. */
  readonly oldSecretUntil: Date | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly version: number;
}

/** What its team chooses of an endpoint. */
export type WebhookChoices = Pick<Webhook, 'url' | 'description' | 'eventTypes' | 'domains' | 'enabled'>;

/** An endpoint with its secret as it is stored: `SecretKeys.open` gives the secret. */
export interface WebhookWithSecret {
  readonly webhook: Webhook;
  readonly secret: SealedSecret;
}

/** Thrown when a rule of endpoints is broken; nothing has changed. The message says what to do. */
export class WebhookRuleBroken extends Error {
  override readonly name = 'WebhookRuleBroken';
  /** @param count how many there are, and how many there may be, of `too_many_webhooks`. */
  constructor(
    readonly code: 'webhook_not_found' | 'webhook_has_changed' | 'too_many_webhooks' | 'no_secret_keys',
    message: string,
    readonly count?: { readonly current: number; readonly limit: number },
  ) {
    super(message);
  }
}

/** What `WebhookEndpoints` is made of. */
export interface WebhookEndpointsOptions {
  /** Encrypts the secrets; undefined where the installation has no keys, so that no secret can be made. */
  readonly keys: SecretKeys | undefined;
  /** Gives the newest settled position of the log: what was recorded before an endpoint is not sent to it. */
  readonly head: () => Promise<number>;
  /** Runs a transaction that holds the team, so that its creations go one after the other. */
  readonly inTeam: <T>(team: string, work: (client: Connection) => Promise<T>) => Promise<T>;
  /** Endpoints that a team may have. */
  readonly mostOfATeam: number;
}

/** How many endpoints a team has, and may have. */
export interface WebhookUse {
  readonly current: number;
  readonly limit: number;
}

/** Deliveries of a removed endpoint that are removed at once. */
const removedAtOnce = 5_000;
/** Milliseconds for which a removal goes on removing deliveries. What is left then is removed by its age. */
const removeForMs = 10_000;

export const webhookColumns = `id, team, url, description, event_types AS "eventTypes", domains, enabled,
  disabled_because AS "disabledBecause", failing_since AS "failingSince",
  CASE WHEN old_secret_until > now() THEN old_secret_until END AS "oldSecretUntil",
  created_at AS "createdAt", updated_at AS "updatedAt", version`;

interface StoredSecret {
  readonly sealed: Buffer;
  readonly keyId: string;
  readonly rotation: string | null;
}
const secretColumns = 'secret AS sealed, secret_key_id AS "keyId", rotation';

/** Keeps the endpoints of teams. What is sent to them is `Deliveries`. */
export class WebhookEndpoints {
  constructor(
    private readonly pool: Pool,
    private readonly options: WebhookEndpointsOptions,
  ) {}

  /**
   * Creates an endpoint with a new secret. With the id of one that was created before, gives that one.
   *
   * @throws {WebhookRuleBroken} `no_secret_keys`, `too_many_webhooks`
   * @throws {Error} whatever `inTeam` throws for a team that is not there.
   */
  async create(id: string, team: string, choices: WebhookChoices): Promise<WebhookWithSecret> {
    const keys = this.keysToSeal();
    // Events that are recorded between the two are sent as well.
    const head = await this.options.head();
    return this.options.inTeam(team, async (client) => {
      const existing = await lock(client, id, team);
      if (existing) return existing;
      await this.assertRoom(client, team);
      const { sealed, keyId } = keys.seal(id, newSecret());
      const { url, description, eventTypes, domains, enabled } = choices;
      const { rows } = await client.query<Webhook>(
        `INSERT INTO webhooks
          (id, team, url, description, event_types, domains, enabled, from_position, secret, secret_key_id)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING ${webhookColumns}`,
        [id, team, url, description, eventTypes, domains, enabled, head, sealed, keyId],
      );
      return { webhook: rows[0]!, secret: { sealed, keyId } };
    });
  }

  /** Lists at most `limit` endpoints of a team, the newest first: those below the id `before`, if it is given. */
  async page(team: string, limit: number, before?: string): Promise<Webhook[]> {
    const { rows } = await this.pool.query<Webhook>({
      name: 'webhook-page',
      text: `SELECT ${webhookColumns} FROM webhooks
        WHERE team = $1 AND ($3::text IS NULL OR id < $3) ORDER BY id DESC LIMIT $2`,
      values: [team, limit, before ?? null],
    });
    return rows;
  }

  /** Finds an endpoint of a team; undefined where there is none, or it is another team's. */
  async find(id: string, team: string): Promise<Webhook | undefined> {
    const { rows } = await this.pool.query<Webhook>({
      name: 'webhook-find',
      text: `SELECT ${webhookColumns} FROM webhooks WHERE id = $1 AND team = $2`,
      values: [id, team],
    });
    return rows[0];
  }

  /**
   * Changes an endpoint; what is absent stays as it is. One that is enabled again gets what is recorded from then on,
   * and is tried as if it had never failed, as is one with another URL.
   *
   * @param expected the version that it must have; any when undefined.
   * @throws {WebhookRuleBroken} `webhook_not_found`, `webhook_has_changed`
   */
  async update(id: string, team: string, changes: Partial<WebhookChoices>, expected?: number): Promise<Webhook> {
    const head = changes.enabled ? await this.options.head() : null;
    return inTransaction(this.pool, async (client) => {
      const { webhook } = await lockExpected(client, id, team, expected);
      const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
      const next: Webhook = { ...webhook, ...given };
      if (sameChoices(webhook, next)) return webhook;
      const isEnabledAgain = next.enabled && !webhook.enabled;
      const startsAnew = isEnabledAgain || next.url !== webhook.url;
      if (startsAnew || !next.enabled) await takeLanes(client, id);
      const { rows } = await client.query<Webhook>(
        `UPDATE webhooks SET url = $2, description = $3, event_types = $4, domains = $5, enabled = $6,
            from_position = coalesce($7, from_position),
            disabled_because = CASE WHEN $6 THEN NULL ELSE disabled_because END,
            failing_since = CASE WHEN $8 THEN NULL ELSE failing_since END,
            updated_at = now(), version = version + 1
          WHERE id = $1 RETURNING ${webhookColumns}`,
        [
          id,
          next.url,
          next.description,
          next.eventTypes,
          next.domains,
          next.enabled,
          isEnabledAgain ? head : null,
          startsAnew,
        ],
      );
      if (startsAnew) await tryAnew(client, id);
      return rows[0]!;
    });
  }

  /**
   * Removes an endpoint with all that was sent to it.
   *
   * @param expected the version that it must have; any when undefined.
   * @throws {WebhookRuleBroken} `webhook_not_found`, `webhook_has_changed`
   */
  async remove(id: string, team: string, expected?: number): Promise<void> {
    await inTransaction(this.pool, async (client) => {
      await lockExpected(client, id, team, expected);
      await removeEndpoints(client, [id]);
    });
    await this.removeDeliveries(id);
  }

  /**
   * Gives an endpoint a new secret. The one before signs as well for a while; one that was still doing so since an
   * earlier rotation no longer does.
   *
   * @param rotation an id. A rotation that is repeated with its id gives the secret that it has made, which is why a
   * process that died in between leaves nobody without the secret.
   * @param overlapMs milliseconds for which the old secret signs as well; 0 for not at all.
   * @throws {WebhookRuleBroken} `webhook_not_found`, `no_secret_keys`
   */
  async rotate(id: string, team: string, rotation: string, overlapMs: number): Promise<WebhookWithSecret> {
    const keys = this.keysToSeal();
    return inTransaction(this.pool, async (client) => {
      const before = await lockExpected(client, id, team);
      if (before.rotation === rotation) return before;
      await takeLanes(client, id);
      const { sealed, keyId } = keys.seal(id, newSecret());
      const { rows } = await client.query<Webhook>(
        `UPDATE webhooks SET secret = $2, secret_key_id = $3, rotation = $4,
            old_secret = CASE WHEN $5 > 0 THEN secret END,
            old_secret_key_id = CASE WHEN $5 > 0 THEN secret_key_id END,
            old_secret_until = CASE WHEN $5 > 0 THEN now() + $5 * interval '1 millisecond' END,
            updated_at = now(), version = version + 1
          WHERE id = $1 RETURNING ${webhookColumns}`,
        [id, sealed, keyId, rotation, overlapMs],
      );
      return { webhook: rows[0]!, secret: { sealed, keyId } };
    });
  }

  /** Decrypts a secret of an endpoint that `create` or `rotate` has given. @throws {SecretUnreadable} */
  open(id: string, { sealed, keyId }: SealedSecret): string {
    return this.keysToSeal().open(id, sealed, keyId);
  }

  /** Erases secrets of all teams that no longer sign. */
  async forgetOldSecrets(): Promise<void> {
    await this.pool.query(
      `UPDATE webhooks SET old_secret = NULL, old_secret_key_id = NULL, old_secret_until = NULL
        WHERE old_secret_until <= now()`,
    );
  }

  private keysToSeal(): SecretKeys {
    if (this.options.keys) return this.options.keys;
    throw new WebhookRuleBroken(
      'no_secret_keys',
      'Webhooks cannot be created here yet, nor their secrets rotated. Ask support at contact@sendmux.ai.',
    );
  }

  /** Gives how many endpoints a team has, and may have. */
  async useOf(team: string, connection: Pick<Connection, 'query'> = this.pool): Promise<WebhookUse> {
    const { rows } = await connection.query<{ current: number }>({
      name: 'webhooks-count',
      text: 'SELECT count(*)::int AS current FROM webhooks WHERE team = $1',
      values: [team],
    });
    return { current: rows[0]!.current, limit: this.options.mostOfATeam };
  }

  private async assertRoom(client: Connection, team: string): Promise<void> {
    const { current, limit } = await this.useOf(team, client);
    if (current >= limit)
      throw new WebhookRuleBroken(
        'too_many_webhooks',
        `Your team has ${current} webhooks, and ${limit} is the most. Delete one first, or ask support.`,
        { current, limit },
      );
  }

  /** Removes the deliveries of an endpoint that is gone. Those that are left when the time is over go by their age. */
  private async removeDeliveries(id: string): Promise<void> {
    const until = Date.now() + removeForMs;
    for (let removed = removedAtOnce; removed === removedAtOnce && Date.now() < until;) {
      const { rowCount } = await this.pool.query(
        `DELETE FROM webhook_deliveries WHERE webhook = $1
          AND id IN (SELECT id FROM webhook_deliveries WHERE webhook = $1 LIMIT $2)`,
        [id, removedAtOnce],
      );
      removed = rowCount ?? 0;
    }
  }
}

/**
 * Removes the endpoints of a team that is deleted; their deliveries go by their age.
 *
 * @param client in a transaction that holds the team, so that none is created meanwhile.
 * @returns the ids of those that there were.
 */
export async function removeWebhooksOf(client: Connection, team: string): Promise<string[]> {
  const { rows } = await client.query<{ id: string }>(
    'SELECT id FROM webhooks WHERE team = $1 ORDER BY id FOR UPDATE',
    [team],
  );
  const ids = rows.map(({ id }) => id);
  await removeEndpoints(client, ids);
  return ids;
}

async function lock(client: Connection, id: string, team: string) {
  const { rows } = await client.query<Webhook & StoredSecret>(
    `SELECT ${webhookColumns}, ${secretColumns} FROM webhooks WHERE id = $1 AND team = $2 FOR UPDATE`,
    [id, team],
  );
  if (!rows[0]) return undefined;
  const { sealed, keyId, rotation, ...webhook } = rows[0];
  return { webhook, secret: { sealed, keyId }, rotation };
}

/** @throws {WebhookRuleBroken} `webhook_not_found`, `webhook_has_changed` */
async function lockExpected(client: Connection, id: string, team: string, expected?: number) {
  const locked = await lock(client, id, team);
  if (!locked) throw webhookNotFound(id);
  if (expected !== undefined && locked.webhook.version !== expected)
    throw new WebhookRuleBroken('webhook_has_changed', `${id} was changed meanwhile.`);
  return locked;
}

/** Removes endpoints and all that waits for them, but for the deliveries themselves, of which there may be many. */
async function removeEndpoints(client: Connection, ids: readonly string[]): Promise<void> {
  await lockLanes(client, ids);
  await client.query('DELETE FROM webhooks WHERE id = ANY($1)', [ids]);
  for (const table of ['webhook_lanes', 'webhook_queues', 'webhook_replays'])
    await client.query(`DELETE FROM ${table} WHERE webhook = ANY($1)`, [ids]);
}

/**
 * Takes the lanes of an endpoint, whose row is locked, from the processes that work on them, so that nothing goes on as
 * it was read before a change, and what comes of the tries that are under way is not written after it: those are made
 * again.
 */
export async function takeLanes(client: Connection, id: string): Promise<void> {
  await lockLanes(client, [id]);
  await client.query(
    'UPDATE webhook_lanes SET lease_token = NULL, lease_until = NULL WHERE webhook = $1 AND lease_token IS NOT NULL',
    [id],
  );
}

/** Has all that waits for an endpoint, whose lanes are locked, tried now, as if nothing had failed. */
async function tryAnew(client: Connection, id: string): Promise<void> {
  await client.query(
    `UPDATE webhook_lanes SET failures = 0, paused_until = NULL, due = now(), additions = additions + 1
      WHERE webhook = $1
        AND EXISTS (SELECT FROM webhook_queues q WHERE q.webhook = $1 AND q.lane = webhook_lanes.lane)`,
    [id],
  );
  await client.query('UPDATE webhook_queues SET due = now() WHERE webhook = $1 AND due > now()', [id]);
}

/** Locks lanes before their queues, and in their order, as everybody does. */
const lockLanes = (client: Connection, webhooks: readonly string[]) =>
  client.query('SELECT FROM webhook_lanes WHERE webhook = ANY($1) ORDER BY webhook, lane FOR NO KEY UPDATE', [
    webhooks,
  ]);

export const webhookNotFound = (id: string) =>
  new WebhookRuleBroken('webhook_not_found', `There is no webhook ${id.slice(0, 100)}.`);

function sameChoices(one: WebhookChoices, other: WebhookChoices): boolean {
  const choices = ({ url, description, eventTypes, domains, enabled }: WebhookChoices) =>
    JSON.stringify([url, description, eventTypes, domains, enabled]);
  return choices(one) === choices(other);
}
