import { Inject, Injectable } from '@nestjs/common';
import { inTransaction, type Connection } from '@app/database';
import { Pool } from 'pg';
import { newInvitationToken } from '@app/runtime';
import { checkedEmails, hashOf, lockTeam } from './accounts.service';
import { AccountRuleBroken } from './errors';

/** How long an invitation is valid, as a PostgreSQL interval. */
const standsFor = '7 days';

/** The most invitations of a team that can be accepted at a time. Each of them is a mail to somebody else. */
export const openInvitationsLimit = 20;

/** The task list of invitations that a customer asked for; the notifier mails them. */
export const invitationTasks = 'invitations';

/** Whom to mail. The token is made when the mail is sent, so that it is stored nowhere. */
export interface InvitationTask {
  readonly team: string;
  readonly email: string;
}

/** An invitation with what only its mail has. */
export interface MailedInvitation extends Invitation {
  readonly teamName: string;
  readonly token: string;
}

export interface Invitation {
  readonly team: string;
  /** The address as it was written. */
  readonly email: string;
  readonly expiresAt: Date;
}

/**
 * Manages invitations. An address becomes an owner only when its holder accepts: whoever reads a team's mail must have
 * the address that it goes to.
 */
@Injectable()
export class Invitations {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Invites an address, or invites it again, after which only the newest token is valid. `token` is the secret; it is
   * only in this answer and cannot be read again.
   *
   * @throws {AccountRuleBroken} `invalid_email`, `team_not_found`, `already_owner`, `too_many_invitations`
   */
  async invite(team: string, address: string): Promise<MailedInvitation> {
    const [email] = checkedEmails([address]) as [string];
    const token = newInvitationToken();
    // Invitations of a team are written one at a time, so that none is beyond the limit.
    return inTransaction(this.pool, async (client) => {
      const { name: teamName } = await lockTeam(client, team);
      await assertInvitable(client, team, email);
      const { rows } = await client.query<Invitation>(
        `INSERT INTO invitations (team, email, hash, expires_at) VALUES ($1, $2, $3, now() + interval '${standsFor}')
          ON CONFLICT (team, lower(email)) DO UPDATE
          SET email = EXCLUDED.email, hash = EXCLUDED.hash, created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at
          RETURNING team, email, expires_at AS "expiresAt"`,
        [team, email, hashOf(token)],
      );
      return { ...rows[0]!, teamName, token };
    });
  }

  /**
   * Gives an open invitation a new token, with which it is mailed; undefined when it was accepted or withdrawn, or is
   * over.
   */
  async reissue({ team, email }: InvitationTask): Promise<MailedInvitation | undefined> {
    const token = newInvitationToken();
    const { rows } = await this.pool.query<Omit<MailedInvitation, 'token'>>(
      `UPDATE invitations SET hash = $3 FROM teams
        WHERE team = $1 AND lower(email) = lower($2) AND expires_at > now() AND teams.id = team
        RETURNING team, email, expires_at AS "expiresAt", teams.name AS "teamName"`,
      [team, email, hashOf(token)],
    );
    return rows[0] && { ...rows[0], token };
  }

  /**
   * Makes the invited address an owner. A token can be used once.
   *
   * @throws {AccountRuleBroken} `invitation_not_found`, for a token that is unknown, used, withdrawn, replaced or
   * expired alike.
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

  /**
   * Withdraws an invitation.
   *
   * @throws {AccountRuleBroken} `invitation_not_found`
   */
  async withdraw(team: string, address: string): Promise<Invitation> {
    const { rows } = await this.pool.query<Invitation>(
      'DELETE FROM invitations WHERE team = $1 AND lower(email) = lower($2) RETURNING team, email, expires_at AS "expiresAt"',
      [team, address.trim()],
    );
    if (rows[0]) return rows[0];
    throw new AccountRuleBroken('invitation_not_found', `${address} is not invited to ${team}.`);
  }

  /** Removes invitations that have expired, with the addresses of those who have not accepted. */
  async purge(): Promise<void> {
    await this.pool.query('DELETE FROM invitations WHERE expires_at <= now()');
  }

  /** Lists the invitations that can still be accepted, by address. */
  async list(team: string): Promise<Invitation[]> {
    const { rows } = await this.pool.query<Invitation>(
      `SELECT team, email, expires_at AS "expiresAt" FROM invitations
        WHERE team = $1 AND expires_at > now() ORDER BY email`,
      [team],
    );
    return rows;
  }
}

/** @throws {AccountRuleBroken} `already_owner`, `too_many_invitations` */
async function assertInvitable(client: Connection, team: string, email: string): Promise<void> {
  const { rows } = await client.query<{ isOwner: boolean; others: number }>(
    `SELECT EXISTS (SELECT FROM owners WHERE team = $1 AND lower(email) = lower($2)) AS "isOwner",
      (SELECT count(*)::int FROM invitations
        WHERE team = $1 AND expires_at > now() AND lower(email) <> lower($2)) AS others`,
    [team, email],
  );
  const { isOwner, others } = rows[0]!;
  if (isOwner) throw new AccountRuleBroken('already_owner', `${email} is an owner of ${team} already.`);
  if (others >= openInvitationsLimit)
    throw new AccountRuleBroken(
      'too_many_invitations',
      `${others} invitations of ${team} are open, and ${openInvitationsLimit} is the most. Withdraw one first.`,
      { current: others, limit: openInvitationsLimit },
    );
}
