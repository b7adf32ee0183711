import { rulesDigest, type SenderRule } from '@app/mailbox';
import type { Pool } from 'pg';

/** Says when rules that no event names any more are removed: a command that names them may still be under way. */
const keptFor = '1 hour';

/** The task list of domains of which rules were stored; provisioning erases those that nothing names. */
export const senderRulesTasks = 'sender-rules';

/** Milliseconds after which to look for rules to erase: longer than they are kept, by whichever clock. */
export const senderRulesLookMs = 90 * 60_000;

/**
 * Stores the rules about senders by domain and digest. They name people, so events have their digest alone, and the
 * rules can be erased. Rules are stored before the command that names them, so that no event names rules that are not
 * there.
 */
export class StoredSenderRules {
  constructor(private readonly pool: Pick<Pool, 'query'>) {}

  /**
   * Stores rules in their canonical form. Storing them again changes nothing, but keeps them for another while.
   *
   * @returns their digest.
   */
  async put(domainId: string, rules: readonly SenderRule[]): Promise<string> {
    const digest = rulesDigest(rules);
    await this.pool.query(
      `INSERT INTO sender_rules (domain, digest, rules) VALUES ($1, $2, $3)
        ON CONFLICT (domain, digest) DO UPDATE SET stored_at = now()`,
      [domainId, digest, JSON.stringify(rules)],
    );
    return digest;
  }

  /** Gives the rules; undefined when they were replaced and erased since. */
  async find(domainId: string, digest: string): Promise<SenderRule[] | undefined> {
    const { rows } = await this.pool.query<{ rules: SenderRule[] }>({
      name: 'sender-rules',
      text: 'SELECT rules FROM sender_rules WHERE domain = $1 AND digest = $2',
      values: [domainId, digest],
    });
    return rows[0]?.rules;
  }

  /** Erases all rules of a domain but those that apply, and those that were stored a moment ago. */
  async eraseOthers(domainId: string, digest: string): Promise<void> {
    await this.pool.query(
      `DELETE FROM sender_rules WHERE domain = $1 AND digest <> $2 AND stored_at < now() - interval '${keptFor}'`,
      [domainId, digest],
    );
  }

  /** Erases all rules of a domain that is gone. */
  async erase(domainId: string): Promise<void> {
    await this.pool.query('DELETE FROM sender_rules WHERE domain = $1', [domainId]);
  }
}
