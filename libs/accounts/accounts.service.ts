import { createHash } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { isEmail } from 'class-validator';
import { Pool, type PoolClient } from 'pg';
import { newApiKey, newId, newTeamId } from '@app/runtime';
import { AccountRuleBroken } from './errors';
import { grantable, isRole, roles } from './permissions';

export interface Team {
  readonly id: string;
  readonly name: string;
  readonly createdAt: Date;
}

/** A key without its secret. */
export interface ApiKey {
  readonly id: string;
  readonly team: string;
  readonly name: string;
  /** The last four characters of the key. */
  readonly hint: string;
  readonly role: string | null;
  /** What it may do, whether by a role or one by one. */
  readonly permissions: readonly string[];
  readonly createdAt: Date;
  readonly revokedAt: Date | null;
  /** From then on it opens nothing; null of a key that nobody has rotated. */
  readonly expiresAt: Date | null;
  /** Within about a minute; null of a key that nobody has used. */
  readonly lastUsedAt: Date | null;
}

/** Who calls. */
export interface Caller {
  readonly keyId: string;
  readonly team: string;
  readonly permissions: readonly string[];
}

/** Either a role of `roles`, or permissions of `grantable`. */
export type Grant = { readonly role: string } | { readonly permissions: readonly string[] };

type ApiKeyRow = Omit<ApiKey, 'permissions'> & { readonly permissions: string[] };

const keyColumns = `id, team, name, hint, role, permissions, created_at AS "createdAt", revoked_at AS "revokedAt",
  expires_at AS "expiresAt", last_used_at AS "lastUsedAt"`;
/** By the clock of the database, which all processes share. */
const isAlive = 'revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())';

/** Of a secret only this is kept. 214 bits of randomness need no salt and no slow hash. */
export const hashOf = (key: string): Buffer => createHash('sha256').update(key).digest();

/** Teams, their owners, and their API keys. */
@Injectable()
export class Accounts {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * @param owners addresses, at least one: owners are told when a domain stays broken.
   * @throws {AccountRuleBroken} `invalid_name`, `invalid_email`
   */
  async createTeam(name: string, owners: readonly string[]): Promise<Team> {
    const trimmed = checkedName(name);
    const emails = checkedEmails(owners);
    return this.transaction(async (client) => {
      const { rows } = await client.query<Team>(
        `INSERT INTO teams (id, name) VALUES ($1, $2) RETURNING id, name, created_at AS "createdAt"`,
        [newTeamId(), trimmed],
      );
      const team = rows[0]!;
      await client.query('INSERT INTO owners (team, email) SELECT $1, unnest($2::text[])', [team.id, emails]);
      return team;
    });
  }

  /** All teams, the oldest first. */
  async listTeams(): Promise<Team[]> {
    const { rows } = await this.pool.query<Team>(
      'SELECT id, name, created_at AS "createdAt" FROM teams ORDER BY created_at, id',
    );
    return rows;
  }

  /**
   * Adds owners; those who are owners already stay so.
   *
   * @returns all owners after it.
   * @throws {AccountRuleBroken} `invalid_email`, `team_not_found`
   */
  async addOwners(team: string, owners: readonly string[]): Promise<string[]> {
    const emails = checkedEmails(owners);
    return this.withTeam(team, async (client) => {
      await client.query(
        'INSERT INTO owners (team, email) SELECT $1, unnest($2::text[]) ON CONFLICT (team, email) DO NOTHING',
        [team, emails],
      );
      await endInvitations(client, team, emails);
      return ownersOf(client, team);
    });
  }

  /**
   * @returns the owners who are left.
   * @throws {AccountRuleBroken} `owner_not_found`, `team_not_found`, and `last_owner`: a team always has somebody to tell.
   */
  async removeOwner(team: string, owner: string): Promise<string[]> {
    const email = owner.trim().toLowerCase();
    return this.withTeam(team, async (client) => {
      const before = await ownersOf(client, team);
      if (!before.includes(email)) throw new AccountRuleBroken('owner_not_found', `${email} is no owner of ${team}.`);
      if (before.length === 1)
        throw new AccountRuleBroken('last_owner', `${email} is the only owner of ${team}. Add another one first.`);
      await client.query('DELETE FROM owners WHERE team = $1 AND email = $2', [team, email]);
      await endInvitations(client, team, [email]);
      return before.filter((other) => other !== email);
    });
  }

  /**
   * The addresses of a team's owners, in lower case, sorted.
   *
   * @throws {AccountRuleBroken} `team_not_found`
   */
  async owners(team: string): Promise<string[]> {
    const owners = await ownersOf(this.pool, team);
    if (owners.length === 0) throw teamNotFound(team);
    return owners;
  }

  /**
   * A new key. `key` is the secret: it is in this answer and nowhere else, ever.
   *
   * @throws {AccountRuleBroken} `invalid_grant`, `invalid_name`, `team_not_found`
   */
  async createKey(team: string, grant: Grant, name = 'API key'): Promise<ApiKey & { readonly key: string }> {
    const { role, permissions } = checkedGrant(grant);
    const key = newApiKey();
    const { rows } = await this.pool.query<ApiKeyRow>(
      `INSERT INTO api_keys (id, team, hash, hint, name, role, permissions)
        SELECT $1, id, $3, $4, $5, $6, $7 FROM teams WHERE id = $2 RETURNING ${keyColumns}`,
      [newId('key'), team, hashOf(key), key.slice(-4), checkedName(name), role, permissions],
    );
    if (!rows[0]) throw teamNotFound(team);
    return { ...apiKey(rows[0]), key };
  }

  /**
   * The keys of a team, revoked ones too, the oldest first.
   *
   * @throws {AccountRuleBroken} `team_not_found`
   */
  async listKeys(team: string): Promise<ApiKey[]> {
    await this.owners(team);
    const { rows } = await this.pool.query<ApiKeyRow>(
      `SELECT ${keyColumns} FROM api_keys WHERE team = $1 ORDER BY created_at, id`,
      [team],
    );
    return rows.map(apiKey);
  }

  /**
   * The key opens nothing from now on. A key that is revoked already keeps its time.
   *
   * @throws {AccountRuleBroken} `key_not_found`
   */
  async revokeKey(id: string): Promise<ApiKey> {
    const { rows } = await this.pool.query<ApiKeyRow>(
      `UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING ${keyColumns}`,
      [id],
    );
    if (!rows[0]) throw new AccountRuleBroken('key_not_found', `There is no key ${id}.`);
    return apiKey(rows[0]);
  }

  /**
   * A new key in the place of another, with the same name and grant. The old one opens as much for `overlapMs` more, and never longer
   * than it would have.
   *
   * @param overlapMs milliseconds; 0 ends the old key at once.
   * @throws {AccountRuleBroken} `key_not_found`, `key_ended`
   */
  async rotateKey(
    id: string,
    overlapMs: number,
  ): Promise<ApiKey & { readonly key: string; readonly rotated: { readonly id: string; readonly expiresAt: Date } }> {
    return this.transaction(async (client) => {
      const { rows } = await client.query<ApiKeyRow & { expiresAt: Date }>(
        `UPDATE api_keys SET expires_at = least(expires_at, now() + $2 * interval '1 millisecond')
          WHERE id = $1 AND ${isAlive} RETURNING ${keyColumns}`,
        [id, overlapMs],
      );
      const old = rows[0];
      if (!old) throw await unrotatable(client, id);
      const key = newApiKey();
      const { rows: made } = await client.query<ApiKeyRow>(
        `INSERT INTO api_keys (id, team, hash, hint, name, role, permissions)
          SELECT $2, team, $3, $4, name, role, permissions FROM api_keys WHERE id = $1 RETURNING ${keyColumns}`,
        [id, newId('key'), hashOf(key), key.slice(-4)],
      );
      return { ...apiKey(made[0]!), key, rotated: { id, expiresAt: old.expiresAt } };
    });
  }

  /** Who holds the key; undefined when nobody does, or it is revoked or over. One prepared statement: every request asks. */
  async authenticate(key: string): Promise<Caller | undefined> {
    const { rows } = await this.pool.query<{ id: string; team: string; role: string | null; permissions: string[] }>({
      name: 'api-key-authenticate',
      text: `SELECT id, team, role, permissions FROM api_keys WHERE hash = $1 AND ${isAlive}`,
      values: [hashOf(key)],
    });
    const row = rows[0];
    return row && { keyId: row.id, team: row.team, permissions: granted(row) };
  }

  /** Changes of a team's owners, one at a time: two removals at once must not leave none. */
  private withTeam<T>(team: string, work: (client: PoolClient) => Promise<T>): Promise<T> {
    return this.transaction(async (client) => {
      const { rowCount } = await client.query('SELECT 1 FROM teams WHERE id = $1 FOR UPDATE', [team]);
      if (rowCount === 0) throw teamNotFound(team);
      return work(client);
    });
  }

  private async transaction<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    const client = await this.pool.connect();
    try {
      await client.query('BEGIN');
      const result = await work(client);
      await client.query('COMMIT');
      return result;
    } catch (error) {
      await client.query('ROLLBACK');
      throw error;
    } finally {
      client.release();
    }
  }
}

async function unrotatable(client: PoolClient, id: string): Promise<AccountRuleBroken> {
  const { rowCount } = await client.query('SELECT FROM api_keys WHERE id = $1', [id]);
  return rowCount === 0
    ? new AccountRuleBroken('key_not_found', `There is no key ${id}.`)
    : new AccountRuleBroken(
        'key_ended',
        `${id} is revoked, or its time is over: there is nothing to rotate. Create a new key.`,
      );
}

/** An old mail must not make an owner again of somebody who was removed. */
async function endInvitations(client: PoolClient, team: string, emails: readonly string[]): Promise<void> {
  await client.query('DELETE FROM invitations WHERE team = $1 AND email = ANY ($2)', [team, emails]);
}

async function ownersOf(client: Pool | PoolClient, team: string): Promise<string[]> {
  const { rows } = await client.query<{ email: string }>('SELECT email FROM owners WHERE team = $1 ORDER BY email', [
    team,
  ]);
  return rows.map(({ email }) => email);
}

const granted = ({ role, permissions }: Pick<ApiKeyRow, 'role' | 'permissions'>): readonly string[] =>
  role !== null && isRole(role) ? roles[role] : permissions;

const apiKey = (row: ApiKeyRow): ApiKey => ({ ...row, permissions: granted(row) });

export const teamNotFound = (team: string) => new AccountRuleBroken('team_not_found', `There is no team ${team}.`);

function checkedName(name: string): string {
  const trimmed = name.trim();
  // eslint-disable-next-line no-control-regex -- a name is shown in terminals and mails
  if (trimmed === '' || trimmed.length > 200 || /[\x00-\x1f\x7f]/.test(trimmed))
    throw new AccountRuleBroken('invalid_name', 'A name has 1 to 200 characters, on one line.');
  return trimmed;
}

export function checkedEmails(owners: readonly string[]): string[] {
  const emails = [...new Set(owners.map((owner) => owner.trim().toLowerCase()))];
  if (emails.length === 0) throw new AccountRuleBroken('invalid_email', 'Name at least one owner by e-mail address.');
  const wrong = emails.filter((email) => !isEmail(email));
  if (wrong.length > 0)
    throw new AccountRuleBroken(
      'invalid_email',
      `Not an e-mail address: ${wrong.map((email) => `"${email}"`).join(', ')}.`,
    );
  return emails;
}

function checkedGrant(grant: Grant): { role: string | null; permissions: string[] } {
  if ('role' in grant) {
    if (isRole(grant.role)) return { role: grant.role, permissions: [] };
    throw new AccountRuleBroken(
      'invalid_grant',
      `There is no role "${grant.role}". Roles: ${Object.keys(roles).join(', ')}.`,
    );
  }
  const known = `Permissions: ${grantable.join(', ')}.`;
  if (grant.permissions.length === 0)
    throw new AccountRuleBroken('invalid_grant', `A key needs a role or at least one permission. ${known}`);
  const wrong = grant.permissions.find((permission) => !grantable.includes(permission));
  if (wrong !== undefined) throw new AccountRuleBroken('invalid_grant', `There is no permission "${wrong}". ${known}`);
  return { role: null, permissions: [...new Set(grant.permissions)] };
}
