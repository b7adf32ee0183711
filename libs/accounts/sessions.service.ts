import { Inject, Injectable } from '@nestjs/common';
import { inTransaction } from '@app/database';
import { Pool } from 'pg';
import { newSessionToken } from '@app/runtime';
import { Accounts, granted, hashOf, isAlive, type Caller } from './accounts.service';

/** How long a session lasts after its last use, and at most, as PostgreSQL intervals. */
const idleFor = '30 minutes';
const longest = '8 hours';
/** How far a session may be used up before its end is moved, so that not every request writes. */
const movedAfter = '1 minute';

/** The most sessions of one key at a time; a further one ends the oldest. */
export const sessionsOfKeyLimit = 20;

/** A console session of an API key. */
export interface Session {
  /** Its rights are those of the key at this moment. */
  readonly caller: Caller;
  readonly expiresAt: Date;
}

const end = (createdAt: string): string => `least(now() + interval '${idleFor}', ${createdAt} + interval '${longest}')`;

/**
 * Manages sessions of the console: somebody who has an API key sends it once, and a cookie afterwards. A session ends
 * with its key, 30 minutes after its last use, and after eight hours.
 */
@Injectable()
export class Sessions {
  constructor(
    @Inject(Pool) private readonly pool: Pool,
    private readonly accounts: Accounts,
  ) {}

  /**
   * Begins a session. `token` is the secret; it is only in this answer and cannot be read again.
   *
   * @returns undefined when the key is unknown, revoked or expired.
   */
  async begin(key: string): Promise<(Session & { readonly token: string }) | undefined> {
    const caller = await this.accounts.authenticate(key);
    if (!caller) return undefined;
    const token = newSessionToken();
    // Sessions of a key begin one at a time, so that it never has more than it may.
    const expiresAt = await inTransaction(this.pool, async (client) => {
      await client.query('SELECT FROM api_keys WHERE id = $1 FOR NO KEY UPDATE', [caller.keyId]);
      await client.query(
        `DELETE FROM console_sessions WHERE hash IN (
          SELECT hash FROM console_sessions WHERE key_id = $1 ORDER BY created_at DESC OFFSET $2
        )`,
        [caller.keyId, sessionsOfKeyLimit - 1],
      );
      const { rows } = await client.query<{ expiresAt: Date }>(
        `INSERT INTO console_sessions (hash, key_id, expires_at) VALUES ($1, $2, ${end('now()')})
          RETURNING expires_at AS "expiresAt"`,
        [hashOf(token), caller.keyId],
      );
      return rows[0]!.expiresAt;
    });
    return { caller, expiresAt, token };
  }

  /** Finds the session of a token, and moves its end; undefined when there is none, or its key is no longer valid. */
  async resume(token: string): Promise<Session | undefined> {
    const hash = hashOf(token);
    const { rows } = await this.pool.query<SessionRow>({
      name: 'session-resume',
      text: `SELECT id, team, role, permissions, ends_at AS "expiresAt", due
        FROM api_keys JOIN (
          SELECT key_id, expires_at AS ends_at, expires_at < ${end('created_at')} - interval '${movedAfter}' AS due
            FROM console_sessions WHERE hash = $1 AND expires_at > now()
        ) AS session ON key_id = id
        WHERE ${isAlive}`,
      values: [hash],
    });
    const [row] = rows;
    if (!row) return undefined;
    const { id: keyId, team, role, due } = row;
    return {
      caller: { keyId, team, role, permissions: granted(row) },
      expiresAt: (due ? await this.moveEnd(hash) : undefined) ?? row.expiresAt,
    };
  }

  /** Ends a session, if there is one. */
  async end(token: string): Promise<void> {
    await this.pool.query('DELETE FROM console_sessions WHERE hash = $1', [hashOf(token)]);
  }

  /** Removes sessions that are over. */
  async purge(): Promise<void> {
    await this.pool.query(
      `DELETE FROM console_sessions WHERE expires_at <= now()
        OR key_id IN (SELECT id FROM api_keys WHERE NOT (${isAlive}))`,
    );
  }

  private async moveEnd(hash: Buffer): Promise<Date | undefined> {
    const { rows } = await this.pool.query<{ expiresAt: Date }>({
      name: 'session-move-end',
      text: `UPDATE console_sessions SET expires_at = ${end('created_at')} WHERE hash = $1
        RETURNING expires_at AS "expiresAt"`,
      values: [hash],
    });
    return rows[0]?.expiresAt;
  }
}

interface SessionRow {
  readonly id: string;
  readonly team: string;
  readonly role: string | null;
  readonly permissions: string[];
  readonly expiresAt: Date;
  readonly due: boolean;
}
