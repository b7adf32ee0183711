import { Inject, Injectable } from '@nestjs/common';
import { inTransaction, type Connection } from '@app/database';
import { Pool } from 'pg';
import { newId, newSetupToken } from '@app/runtime';
import { checkedEmails, hashOf, lockTeam } from './accounts.service';
import { AccountRuleBroken } from './errors';

/** The most setup links of a domain that are open at a time. */
export const openSetupLinksLimit = 20;

/** The most mails with setup instructions that a team, and one of its domains, may have sent within an hour. */
export const setupMailsAnHour = { ofTeam: 20, ofDomain: 5 } as const;

/** The most mails with setup instructions that a team may have sent to one address within a day. */
export const setupMailsADay = 10;

/** How many days a setup link is valid, unless its creator says otherwise. */
export const setupLinkDays = 7;

/** The task list of setup links that are to be mailed; the notifier mails them. */
export const setupMailTasks = 'setup-instructions';

/** Which link to mail. Its token is made when the mail is sent, so that it is stored nowhere. */
export interface SetupMailTask {
  readonly id: string;
}

/** A link with which somebody without an API key reads and verifies one domain. */
export interface SetupLink {
  readonly id: string;
  readonly team: string;
  readonly domainId: string;
  /** Whom it is mailed to; null where the creator hands it over. */
  readonly email: string | null;
  readonly createdAt: Date;
  readonly expiresAt: Date;
}

/** A link with its secret, which is in this answer only. */
export interface SecretSetupLink extends SetupLink {
  readonly token: string;
}

/** Gives the address of the page that a setup link opens. A browser sends no fragment to a server, nor a Referer. */
export const setupPageOf = (publicUrl: string, token: string): string => `${publicUrl}/setup#${token}`;

const columns = 'id, team, domain_id AS "domainId", email, created_at AS "createdAt", expires_at AS "expiresAt"';
const isOpen = 'revoked_at IS NULL AND expires_at > now()';

/** Manages setup links. A link ends with its time, by revocation, and with its domain. */
@Injectable()
export class SetupLinks {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  /**
   * Creates a link. `token` is the secret; it is only in this answer and cannot be read again.
   *
   * @param domainId of a domain of the team, which the caller has checked.
   * @throws {AccountRuleBroken} `team_not_found`, `too_many_setup_links`
   */
  async create(team: string, domainId: string, days = setupLinkDays): Promise<SecretSetupLink> {
    const token = newSetupToken();
    const link = await inTransaction(this.pool, (client) =>
      this.insert(client, { team, domainId, days, hash: hashOf(token), email: null }),
    );
    return { ...link, token };
  }

  /**
   * Creates a link that is to be mailed. It has no token until then.
   *
   * @param also runs in the same transaction, so that a link is there if and only if its mail is asked for.
   * @throws {AccountRuleBroken} `invalid_email`, `team_not_found`, `too_many_setup_links`, `too_many_setup_mails`
   */
  async createForMail(
    team: string,
    domainId: string,
    address: string,
    also: (link: SetupLink, client: Connection) => Promise<void>,
  ): Promise<SetupLink> {
    const [email] = checkedEmails([address]) as [string];
    return inTransaction(this.pool, async (client) => {
      const link = await this.insert(client, { team, domainId, days: setupLinkDays, hash: null, email });
      await also(link, client);
      return link;
    });
  }

  /** Lists the open links of a team's domain, the newest first. */
  async list(team: string, domainId: string): Promise<SetupLink[]> {
    const { rows } = await this.pool.query<SetupLink>(
      `SELECT ${columns} FROM setup_links WHERE domain_id = $1 AND team = $2 AND ${isOpen} ORDER BY id DESC`,
      [domainId, team],
    );
    return rows;
  }

  /**
   * Revokes an open link at once.
   *
   * @throws {AccountRuleBroken} `setup_link_not_found`
   */
  async revoke(team: string, domainId: string, id: string): Promise<void> {
    const { rowCount } = await this.pool.query(
      `UPDATE setup_links SET revoked_at = now(), hash = NULL
        WHERE id = $1 AND domain_id = $2 AND team = $3 AND ${isOpen}`,
      [id, domainId, team],
    );
    if (rowCount === 0)
      throw new AccountRuleBroken('setup_link_not_found', `There is no open setup link ${id.slice(0, 100)}.`);
  }

  /** Revokes all links of a domain that is gone. A link of such a domain opens nothing before that either. */
  async endOf(domainId: string): Promise<void> {
    await this.pool.query({
      name: 'setup-links-end',
      text: 'UPDATE setup_links SET revoked_at = now(), hash = NULL WHERE domain_id = $1 AND revoked_at IS NULL',
      values: [domainId],
    });
  }

  /**
   * Finds the open link of a token; undefined when there is none, for whatever reason. It takes one prepared statement,
   * since every request of the setup page runs it.
   */
  async find(token: string): Promise<SetupLink | undefined> {
    const { rows } = await this.pool.query<SetupLink>({
      name: 'setup-link-find',
      text: `SELECT ${columns} FROM setup_links WHERE hash = $1 AND ${isOpen}`,
      values: [hashOf(token)],
    });
    return rows[0];
  }

  /** Gives a link that is to be mailed a new token; undefined when it has ended. Only the newest token opens it. */
  async reissue({ id }: SetupMailTask): Promise<SecretSetupLink | undefined> {
    const token = newSetupToken();
    const { rows } = await this.pool.query<SetupLink>(
      `UPDATE setup_links SET hash = $2 WHERE id = $1 AND email IS NOT NULL AND ${isOpen} RETURNING ${columns}`,
      [id, hashOf(token)],
    );
    return rows[0] && { ...rows[0], token };
  }

  /** Removes links that have ended, once they do not count for the mails of a day any more. */
  async purge(): Promise<void> {
    await this.pool.query(`DELETE FROM setup_links WHERE NOT (${isOpen}) AND created_at < now() - interval '1 day'`);
  }

  /** Inserts a link while no other one of the team is inserted, so that none is beyond a limit. */
  private async insert(client: Connection, { team, domainId, days, hash, email }: NewLink): Promise<SetupLink> {
    await lockTeam(client, team);
    await assertRoom(client, domainId);
    if (email !== null) await assertMailable(client, team, domainId, email);
    const { rows } = await client.query<SetupLink>(
      `INSERT INTO setup_links (id, team, domain_id, hash, email, expires_at)
        VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 day') RETURNING ${columns}`,
      [newId('slnk'), team, domainId, hash, email, days],
    );
    return rows[0]!;
  }
}

interface NewLink {
  readonly team: string;
  readonly domainId: string;
  readonly days: number;
  readonly hash: Buffer | null;
  readonly email: string | null;
}

/** @throws {AccountRuleBroken} `too_many_setup_links` */
async function assertRoom(client: Connection, domainId: string): Promise<void> {
  const { rows } = await client.query<{ current: number }>(
    `SELECT count(*)::int AS current FROM setup_links WHERE domain_id = $1 AND ${isOpen}`,
    [domainId],
  );
  const { current } = rows[0]!;
  if (current >= openSetupLinksLimit)
    throw new AccountRuleBroken(
      'too_many_setup_links',
      `${current} setup links of this domain are open, and ${openSetupLinksLimit} is the most. Revoke one first.`,
      { current, limit: openSetupLinksLimit },
    );
}

type MailLimit = 'domain' | 'team' | 'address';

/** How many mails a limit allows, and what they are of. */
const mailLimits: Readonly<Record<MailLimit, readonly [most: number, what: string]>> = {
  domain: [setupMailsAnHour.ofDomain, 'for this domain were asked for within an hour'],
  team: [setupMailsAnHour.ofTeam, 'of your team were asked for within an hour'],
  address: [setupMailsADay, 'to this address were asked for within a day'],
};

/** @throws {AccountRuleBroken} `too_many_setup_mails` */
async function assertMailable(client: Connection, team: string, domainId: string, email: string): Promise<void> {
  const { rows } = await client.query<{ limit: MailLimit; sent: number; wait: number }>(
    `SELECT kind AS limit, count(*)::int AS sent, ceil(extract(epoch FROM min(created_at) + span - now()))::int AS wait
      FROM setup_links JOIN (
        VALUES ('domain', interval '1 hour'), ('team', interval '1 hour'), ('address', interval '1 day')
      ) AS limits (kind, span) ON created_at > now() - span
        AND (kind = 'team' OR kind = 'domain' AND domain_id = $2 OR kind = 'address' AND lower(email) = lower($3))
      WHERE team = $1 AND email IS NOT NULL GROUP BY kind, span`,
    [team, domainId, email],
  );
  for (const { limit, sent, wait } of rows) {
    const [most, what] = mailLimits[limit];
    if (sent < most) continue;
    throw new AccountRuleBroken(
      'too_many_setup_mails',
      `${sent} mails with setup instructions ${what}, and that is the most. Create a setup link and hand it over yourself, or wait.`,
      undefined,
      Math.max(1, wait),
    );
  }
}
