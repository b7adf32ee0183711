import { createHash } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { inTransaction, ofAnyLength, Together, type Connection } from '@app/database';
import { Pool } from 'pg';
import isEmail from 'validator/lib/isEmail';
import { newApiKey, newId, newTeamId } from '@app/runtime';
import { AccountRuleBroken } from './errors';
import { grantable, isRole, mayGive, roles, type Grant, type Rights } from './permissions';

export interface Team {
  readonly id: string;
  readonly name: string;
  readonly createdAt: Date;
}

/** A team that was deleted, and what went with it. */
export interface DeletedTeam extends Team {
  readonly deletedAt: Date;
  /** The ids of the keys that were revoked by it. */
  readonly keys: readonly string[];
  /** The addresses of the owners whom it had. */
  readonly owners: readonly string[];
  /** The addresses that were invited. */
  readonly invited: readonly string[];
}

/** An API key without its secret. */
export interface ApiKey {
  readonly id: string;
  readonly team: string;
  readonly name: string;
  /** The last four characters of the key. */
  readonly hint: string;
  readonly role: string | null;
  /** The permissions of the key, whether given by a role or one by one. */
  readonly permissions: readonly string[];
  readonly createdAt: Date;
  readonly revokedAt: Date | null;
  /** The time when the key expires; null for one that was not rotated, nor given by a key that expires. */
  readonly expiresAt: Date | null;
  /** The time of the last use, accurate to about a minute; null for a key that was never used. */
  readonly lastUsedAt: Date | null;
}

/** The team and the rights of whoever calls. */
export interface Caller extends Rights {
  readonly keyId: string;
  readonly team: string;
}

type ApiKeyRow = Omit<ApiKey, 'permissions'> & { readonly permissions: string[] };

const keyColumns = `id, team, name, hint, role, permissions, created_at AS "createdAt", revoked_at AS "revokedAt",
  expires_at AS "expiresAt", last_used_at AS "lastUsedAt"`;
const teamColumns = 'id, name, created_at AS "createdAt"';
/** The SQL condition of a valid key, by the clock of the database, which all processes share. */
export const isAlive = 'revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())';

/**
 * Hashes a secret, since only the hash is stored. A secret with 214 bits of randomness needs no salt and no slow hash.
 */
export const hashOf = (key: string): Buffer => createHash('sha256').update(key).digest();

const inHex = (hash: Buffer): string => hash.toString('hex');

/** The name of what is erased. */
const erasedName = 'erased';

/** Manages teams, their owners, and their API keys. */
@Injectable()
export class Accounts {
  private readonly callers = new Together<Buffer, Caller>(inHex, (hashes) => this.callersOf(hashes));

  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Creates a team.
   *
   * @param owners addresses, at least one: owners get the notices of their domains.
   * @throws {AccountRuleBroken} `invalid_name`, `invalid_email`
   */
  async createTeam(name: string, owners: readonly string[]): Promise<Team> {
    const trimmed = checkedName(name);
    const emails = checkedEmails(owners);
    return inTransaction(this.pool, async (client) => {
      const { rows } = await client.query<Team>(
        `INSERT INTO teams (id, name) VALUES ($1, $2) RETURNING ${teamColumns}`,
        [newTeamId(), trimmed],
      );
      const team = rows[0]!;
      await client.query('INSERT INTO owners (team, email) SELECT $1, unnest($2::text[])', [team.id, emails]);
      return team;
    });
  }

  /** @throws {AccountRuleBroken} `team_not_found` */
  async team(id: string): Promise<Team> {
    const { rows } = await this.pool.query<Team>(
      `SELECT ${teamColumns} FROM teams WHERE id = $1 AND deleted_at IS NULL`,
      [id],
    );
    if (!rows[0]) throw teamNotFound(id);
    return rows[0];
  }

  /** Lists all teams that are not deleted, the oldest first. */
  async listTeams(): Promise<Team[]> {
    const { rows } = await this.pool.query<Team>(
      `SELECT ${teamColumns} FROM teams WHERE deleted_at IS NULL ORDER BY created_at, id`,
    );
    return rows;
  }

  /** Lists the teams that are deleted, the last one first. */
  async deletedTeams(): Promise<(Team & Pick<DeletedTeam, 'deletedAt'>)[]> {
    const { rows } = await this.pool.query<Team & Pick<DeletedTeam, 'deletedAt'>>(
      `SELECT ${teamColumns}, deleted_at AS "deletedAt" FROM teams
        WHERE deleted_at IS NOT NULL ORDER BY deleted_at DESC, id`,
    );
    return rows;
  }

  /**
   * Deletes a team for good: revokes its keys, and removes its owners, invitations and setup links, all at once. The
   * team and its keys are kept, with the time. Of a team that is deleted already nothing changes.
   *
   * @param assertFree throws when the team may not go; it runs in the same transaction, while nobody else can change
   * the team.
   * @throws {AccountRuleBroken} `team_not_found`
   */
  async deleteTeam(id: string, assertFree: (client: Connection) => Promise<void>): Promise<DeletedTeam> {
    return inTransaction(this.pool, async (client) => {
      const { rows } = await client.query<Team & { deletedAt: Date | null }>(
        `SELECT ${teamColumns}, deleted_at AS "deletedAt" FROM teams WHERE id = $1 FOR NO KEY UPDATE`,
        [id],
      );
      const [team] = rows;
      if (!team) throw teamNotFound(id);
      const { deletedAt } = team;
      if (deletedAt !== null) return { ...team, deletedAt, keys: [], owners: [], invited: [] };
      await assertFree(client);
      const ended = async (text: string) =>
        (await client.query<{ what: string }>(text, [id])).rows.map(({ what }) => what);
      const keys = await ended(
        'UPDATE api_keys SET revoked_at = now() WHERE team = $1 AND revoked_at IS NULL RETURNING id AS what',
      );
      // Invitations go first: whoever accepts one at this moment is an owner by the next statement.
      await client.query('DELETE FROM setup_links WHERE team = $1', [id]);
      const invited = await ended('DELETE FROM invitations WHERE team = $1 RETURNING email AS what');
      const owners = await ended('DELETE FROM owners WHERE team = $1 RETURNING email AS what');
      const { rows: gone } = await client.query<{ deletedAt: Date }>(
        'UPDATE teams SET deleted_at = now() WHERE id = $1 RETURNING deleted_at AS "deletedAt"',
        [id],
      );
      return { ...team, deletedAt: gone[0]!.deletedAt, keys, owners, invited };
    });
  }

  /**
   * Erases what a team that is deleted still says of people: its name, and those of its keys. To do so again changes
   * nothing.
   *
   * @throws {AccountRuleBroken} `team_not_found`, and `team_in_use` for a team that is not deleted.
   */
  async eraseTeam(id: string): Promise<void> {
    await inTransaction(this.pool, async (client) => {
      const { rows } = await client.query<{ deletedAt: Date | null }>(
        'SELECT deleted_at AS "deletedAt" FROM teams WHERE id = $1 FOR NO KEY UPDATE',
        [id],
      );
      if (!rows[0]) throw teamNotFound(id);
      if (rows[0].deletedAt === null)
        throw new AccountRuleBroken('team_in_use', `${id} is not deleted. Delete it first: sendmux team delete ${id}.`);
      await client.query('UPDATE teams SET name = $2 WHERE id = $1', [id, erasedName]);
      await client.query('UPDATE api_keys SET name = $2 WHERE team = $1', [id, erasedName]);
    });
  }

  /**
   * Adds owners. Addresses that are owners already stay so.
   *
   * @returns all owners after it.
   * @throws {AccountRuleBroken} `invalid_email`, `team_not_found`
   */
  async addOwners(team: string, owners: readonly string[]): Promise<string[]> {
    const emails = checkedEmails(owners);
    return this.inTeam(team, async (client) => {
      await client.query('INSERT INTO owners (team, email) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING', [
        team,
        emails,
      ]);
      await endInvitations(client, team, emails);
      return ownersOf(client, team);
    });
  }

  /**
   * Removes an owner.
   *
   * @returns the remaining owners.
   * @throws {AccountRuleBroken} `owner_not_found`, `team_not_found`, and `last_owner`, since a team always needs
   * somebody who gets its notices.
   */
  async removeOwner(team: string, owner: string): Promise<string[]> {
    return this.inTeam(team, async (client) => {
      const before = await ownersOf(client, team);
      const email = before.find((other) => folded(other) === folded(owner));
      if (email === undefined)
        throw new AccountRuleBroken('owner_not_found', `${owner.trim()} is no owner of ${team}.`);
      if (before.length === 1)
        throw new AccountRuleBroken('last_owner', `${email} is the only owner of ${team}. Add another one first.`);
      await client.query('DELETE FROM owners WHERE team = $1 AND email = $2', [team, email]);
      await endInvitations(client, team, [email]);
      return before.filter((other) => other !== email);
    });
  }

  /**
   * Gives the addresses of a team's owners as they were written, sorted.
   *
   * @throws {AccountRuleBroken} `team_not_found`
   */
  async owners(team: string): Promise<string[]> {
    const owners = await ownersOf(this.pool, team);
    if (owners.length === 0) throw teamNotFound(team);
    return owners;
  }

  /** The addresses of the owners of every team, by its id, each list sorted. */
  async ownersOfTeams(): Promise<Map<string, string[]>> {
    const { rows } = await this.pool.query<{ team: string; emails: string[] }>(
      'SELECT team, array_agg(email ORDER BY lower(email)) AS emails FROM owners GROUP BY team',
    );
    return new Map(rows.map(({ team, emails }) => [team, emails]));
  }

  /**
   * Creates a key. `key` is the secret; it is only in this answer and cannot be read again.
   *
   * @param giver the key that gives it, with which it ends at the latest; an operator gives whatever there is.
   * @throws {AccountRuleBroken} `invalid_grant`, `grant_exceeds`, `invalid_name`, `team_not_found`
   */
  async createKey(
    team: string,
    grant: Grant,
    name = 'API key',
    giver?: Caller,
  ): Promise<ApiKey & { readonly key: string }> {
    const { role, permissions } = checkedGrant(grant);
    assertGivable(grant, giver);
    const key = newApiKey();
    const { rows } = await this.pool.query<ApiKeyRow>(
      `INSERT INTO api_keys (id, team, hash, hint, name, role, permissions, expires_at)
        SELECT $1, id, $3, $4, $5, $6, $7, (SELECT expires_at FROM api_keys WHERE id = $8)
          FROM teams WHERE id = $2 AND deleted_at IS NULL FOR SHARE RETURNING ${keyColumns}`,
      [newId('key'), team, hashOf(key), key.slice(-4), checkedName(name), role, permissions, giver?.keyId ?? null],
    );
    if (!rows[0]) throw teamNotFound(team);
    return { ...apiKey(rows[0]), key };
  }

  /**
   * Lists the keys of a team, including revoked ones, the oldest first; of a deleted team too.
   *
   * @throws {AccountRuleBroken} `team_not_found`
   */
  async listKeys(team: string): Promise<ApiKey[]> {
    const { rowCount } = await this.pool.query('SELECT FROM teams WHERE id = $1', [team]);
    if (rowCount === 0) throw teamNotFound(team);
    const { rows } = await this.pool.query<ApiKeyRow>(
      `SELECT ${keyColumns} FROM api_keys WHERE team = $1 ORDER BY created_at, id`,
      [team],
    );
    return rows.map(apiKey);
  }

  /** Lists at most `limit` keys of a team below the id `before`, including revoked ones, the newest first. */
  async pageOfKeys(team: string, limit: number, before?: string): Promise<ApiKey[]> {
    const { rows } = await this.pool.query<ApiKeyRow>(
      `SELECT ${keyColumns} FROM api_keys
        WHERE team = $1 AND ($3::text IS NULL OR id < $3) ORDER BY id DESC LIMIT $2`,
      [team, limit, before ?? null],
    );
    return rows.map(apiKey);
  }

  /** @throws {AccountRuleBroken} `key_not_found`, also of another team's key. */
  async keyOf(team: string, id: string): Promise<ApiKey> {
    const { rows } = await this.pool.query<ApiKeyRow>(
      `SELECT ${keyColumns} FROM api_keys WHERE id = $1 AND team = $2`,
      [id, team],
    );
    if (!rows[0]) throw keyNotFound(id);
    return apiKey(rows[0]);
  }

  /**
   * Revokes a key at once. A key that is revoked already keeps its time.
   *
   * @param team whose key it must be; any team's when absent.
   * @throws {AccountRuleBroken} `key_not_found`
   */
  async revokeKey(id: string, team?: string): Promise<ApiKey> {
    const { rows } = await this.pool.query<ApiKeyRow>(
      `UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
        WHERE id = $1 AND ($2::text IS NULL OR team = $2) RETURNING ${keyColumns}`,
      [id, team ?? null],
    );
    if (!rows[0]) throw keyNotFound(id);
    return apiKey(rows[0]);
  }

  /**
   * Creates a key that replaces another one, with the same name and grant. The old key stays valid for `overlapMs`
   * more, but never longer than it would have been.
   *
   * @param overlapMs milliseconds; 0 ends the old key at once.
   * @param caller whose team's key it must be, who must be able to give what it has, and with whose key the new one
   * ends at the latest; an operator when absent.
   * @throws {AccountRuleBroken} `key_not_found`, `key_ended`, `grant_exceeds`
   */
  async rotateKey(
    id: string,
    overlapMs: number,
    caller?: Caller,
  ): Promise<ApiKey & { readonly key: string; readonly rotated: { readonly id: string; readonly expiresAt: Date } }> {
    return inTransaction(this.pool, async (client) => {
      // A deletion of the team waits for this lock, and then revokes the new key as well.
      await client.query('SELECT FROM teams WHERE id = (SELECT team FROM api_keys WHERE id = $1) FOR SHARE', [id]);
      // A key that rotates itself is read before its end is set.
      const { rows: locked } = await client.query<Pick<ApiKeyRow, 'id' | 'expiresAt'>>(
        'SELECT id, expires_at AS "expiresAt" FROM api_keys WHERE id = ANY($1) ORDER BY id FOR UPDATE',
        [[id, caller?.keyId]],
      );
      const latest = locked.find((each) => each.id === caller?.keyId)?.expiresAt ?? null;
      const { rows } = await client.query<ApiKeyRow & { expiresAt: Date }>(
        `UPDATE api_keys SET expires_at = least(expires_at, now() + $2 * interval '1 millisecond')
          WHERE id = $1 AND ($3::text IS NULL OR team = $3) AND ${isAlive} RETURNING ${keyColumns}`,
        [id, overlapMs, caller?.team ?? null],
      );
      const old = rows[0];
      if (!old) throw await unrotatable(client, id, caller?.team);
      assertGivable(old.role === null ? { permissions: old.permissions } : { role: old.role }, caller);
      const key = newApiKey();
      const { rows: made } = await client.query<ApiKeyRow>(
        `INSERT INTO api_keys (id, team, hash, hint, name, role, permissions, expires_at)
          SELECT $2, team, $3, $4, name, role, permissions, $5 FROM api_keys WHERE id = $1 RETURNING ${keyColumns}`,
        [id, newId('key'), hashOf(key), key.slice(-4), latest],
      );
      return { ...apiKey(made[0]!), key, rotated: { id, expiresAt: old.expiresAt } };
    });
  }

  /**
   * Finds the caller of a key; undefined when the key is unknown, revoked or expired. The database is asked for each
   * request, so that a key ends at once, and with one prepared statement for all that come in together.
   */
  authenticate(key: string): Promise<Caller | undefined> {
    return this.callers.of(hashOf(key));
  }

  private async callersOf(hashes: readonly Buffer[]): Promise<Map<string, Caller>> {
    const { rows } = await this.pool.query<{
      hash: Buffer;
      id: string;
      team: string;
      role: string | null;
      permissions: string[];
    }>({
      name: 'api-keys-authenticate',
      text: `SELECT hash, id, team, role, permissions FROM api_keys
        WHERE hash = ANY (${ofAnyLength('$1', 'bytea')}) AND ${isAlive}`,
      values: [hashes],
    });
    return new Map(
      rows.map((row) => [
        inHex(row.hash),
        { keyId: row.id, team: row.team, role: row.role, permissions: granted(row) },
      ]),
    );
  }

  /**
   * Runs changes of a team one at a time, so that two concurrent removals cannot leave it without owners, and that it
   * is not deleted meanwhile.
   *
   * @throws {AccountRuleBroken} `team_not_found`
   */
  inTeam<T>(team: string, work: (client: Connection) => Promise<T>): Promise<T> {
    return inTransaction(this.pool, async (client) => {
      await lockTeam(client, team);
      return work(client);
    });
  }
}

/**
 * Locks a team for a change. The lock lets a row refer to the team: whoever accepts an invitation does not wait for it.
 *
 * @throws {AccountRuleBroken} `team_not_found`
 */
export async function lockTeam(client: Connection, id: string): Promise<Team> {
  const { rows } = await client.query<Team>(
    `SELECT ${teamColumns} FROM teams WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE`,
    [id],
  );
  if (!rows[0]) throw teamNotFound(id);
  return rows[0];
}

async function unrotatable(client: Connection, id: string, team?: string): Promise<AccountRuleBroken> {
  const { rowCount } = await client.query('SELECT FROM api_keys WHERE id = $1 AND ($2::text IS NULL OR team = $2)', [
    id,
    team ?? null,
  ]);
  return rowCount === 0
    ? keyNotFound(id)
    : new AccountRuleBroken(
        'key_ended',
        `${id} is revoked, or its time is over: there is nothing to rotate. Create a new key.`,
      );
}

/** Ends the open invitations of these addresses, so that an old mail cannot make a removed owner an owner again. */
async function endInvitations(client: Connection, team: string, emails: readonly string[]): Promise<void> {
  await client.query(
    'DELETE FROM invitations WHERE team = $1 AND lower(email) IN (SELECT lower(given) FROM unnest($2::text[]) given)',
    [team, emails],
  );
}

async function ownersOf(client: Pool | Connection, team: string): Promise<string[]> {
  const { rows } = await client.query<{ email: string }>(
    'SELECT email FROM owners WHERE team = $1 ORDER BY lower(email)',
    [team],
  );
  return rows.map(({ email }) => email);
}

export const granted = ({ role, permissions }: Pick<ApiKeyRow, 'role' | 'permissions'>): readonly string[] =>
  role !== null && isRole(role) ? roles[role] : permissions;

const apiKey = (row: ApiKeyRow): ApiKey => ({ ...row, permissions: granted(row) });

const keyNotFound = (id: string) => new AccountRuleBroken('key_not_found', `There is no key ${id}.`);

/** @throws {AccountRuleBroken} `grant_exceeds` when a key would give more than it has. */
function assertGivable(grant: Grant, giver?: Rights): void {
  if (!giver || mayGive(giver, grant)) return;
  throw new AccountRuleBroken(
    'grant_exceeds',
    `A key can give only what it may do itself. This one has ${giver.role ?? giver.permissions.join(', ')}.`,
  );
}

export const teamNotFound = (team: string) => new AccountRuleBroken('team_not_found', `There is no team ${team}.`);

function checkedName(name: string): string {
  const trimmed = name.trim();
  if (trimmed === '' || trimmed.length > 200 || /[\p{Cc}\p{Zl}\p{Zp}]/u.test(trimmed))
    throw new AccountRuleBroken('invalid_name', 'A name has 1 to 200 characters, on one line.');
  return trimmed;
}

/** Addresses that are the same folded are one owner; they are kept and mailed as they were written. */
const folded = (address: string): string => address.trim().toLowerCase();

/** Gives each address once, as it was written first. */
export function checkedEmails(owners: readonly string[]): string[] {
  const byFold = new Map<string, string>();
  for (const owner of owners) if (!byFold.has(folded(owner))) byFold.set(folded(owner), owner.trim());
  const emails = [...byFold.values()];
  if (emails.length === 0) throw new AccountRuleBroken('invalid_email', 'Name at least one owner by e-mail address.');
  // Within quotation marks line ends would pass, and beside ASCII what no reader sees: no address in use has any.
  const wrong = emails.filter((email) => !isEmail(email) || /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(email));
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
