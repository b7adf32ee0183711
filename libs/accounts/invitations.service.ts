import { Inject, Injectable } from '@nestjs/common';
import { Pool } from 'pg';
import { newInvitationToken } from '@app/runtime';
import { checkedEmails, hashOf, teamNotFound } from './accounts.service';
import { AccountRuleBroken } from './errors';

/** How long an invitation stands (a PostgreSQL interval). */
const standsFor = '7 days';

export interface Invitation {
  readonly team: string;
  /** In lower case. */
  readonly email: string;
  readonly expiresAt: Date;
}

/** An owner is somebody who has said so: who reads the mails of a team must have the address that they go to. */
@Injectable()
export class Invitations {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Invites somebody, or invites again: then only the newest token is good. `token` is the secret: it is in this answer and nowhere
   * else, ever.
   *
   * @throws {AccountRuleBroken} `invalid_email`, `team_not_found`, `already_owner`
   */
  async invite(
    team: string,
    address: string,
  ): Promise<Invitation & { readonly teamName: string; readonly token: string }> {
    const [email] = checkedEmails([address]) as [string];
    const token = newInvitationToken();
    const { rows: found } = await this.pool.query<{ name: string; isOwner: boolean }>(
      `SELECT name, EXISTS (SELECT FROM owners WHERE team = id AND email = $2) AS "isOwner" FROM teams WHERE id = $1`,
      [team, email],
    );
    if (!found[0]) throw teamNotFound(team);
    if (found[0].isOwner) throw new AccountRuleBroken('already_owner', `${email} is an owner of ${team} already.`);
    const { rows } = await this.pool.query<Invitation>(
      `INSERT INTO invitations (team, email, hash, expires_at) VALUES ($1, $2, $3, now() + interval '${standsFor}')
        ON CONFLICT (team, email) DO UPDATE
        SET hash = EXCLUDED.hash, created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at
        RETURNING team, email, expires_at AS "expiresAt"`,
      [team, email, hashOf(token)],
    );
    return { ...rows[0]!, teamName: found[0].name, token };
  }

  /**
   * Makes an owner of who was invited, once.
   *
   * @throws {AccountRuleBroken} `invitation_not_found`, of a token that is unknown, used, withdrawn, replaced or too old alike.
   */
  async accept(token: string): Promise<{ readonly team: string; readonly email: string }> {
    const { rows } = await this.pool.query<{ team: string; email: string }>(
      `WITH accepted AS (
        DELETE FROM invitations WHERE hash = $1 AND expires_at > now() RETURNING team, email
      ), owner AS (
        INSERT INTO owners (team, email) SELECT team, email FROM accepted ON CONFLICT DO NOTHING
      )
      SELECT team, email FROM accepted`,
      [hashOf(token)],
    );
    if (rows[0]) return rows[0];
    throw new AccountRuleBroken(
      'invitation_not_found',
      'There is no such invitation, or no more. Ask the team to invite you again.',
    );
  }

  /** @throws {AccountRuleBroken} `invitation_not_found` */
  async withdraw(team: string, address: string): Promise<Invitation> {
    const { rows } = await this.pool.query<Invitation>(
      'DELETE FROM invitations WHERE team = $1 AND email = $2 RETURNING team, email, expires_at AS "expiresAt"',
      [team, address.trim().toLowerCase()],
    );
    if (rows[0]) return rows[0];
    throw new AccountRuleBroken('invitation_not_found', `${address} is not invited to ${team}.`);
  }

  /** Those that can still be accepted, by address. */
  async list(team: string): Promise<Invitation[]> {
    const { rows } = await this.pool.query<Invitation>(
      `SELECT team, email, expires_at AS "expiresAt" FROM invitations
        WHERE team = $1 AND expires_at > now() ORDER BY email`,
      [team],
    );
    return rows;
  }
}
