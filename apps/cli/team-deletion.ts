import { AccountRuleBroken, Accounts, type DeletedTeam } from '@app/accounts';
import type { Connection } from '@app/database';
import { closeQuotas, heldBy, quotaKinds, singular } from '@app/read-model';
import { removeWebhooksOf } from '@app/webhooks';
import type { Pool } from 'pg';

/** The most names of each kind that a refusal has. */
const namesLimit = 10;

/** What went with a team: its webhooks too. */
export interface DeletedWithWebhooks extends DeletedTeam {
  /** Their ids. */
  readonly webhooks: readonly string[];
}

/**
 * Deletes a team that has no domain and no mailbox, with its webhooks. A creation that is under way is either committed
 * first, and the deletion refused, or it is refused itself.
 *
 * @throws {AccountRuleBroken} `team_not_found`, and `team_in_use`, which names what the team has.
 */
export async function deleteTeam(pool: Pool, id: string): Promise<DeletedWithWebhooks> {
  let webhooks: string[] = [];
  const gone = await new Accounts(pool).deleteTeam(id, async (client) => {
    await assertFree(client, id);
    webhooks = await removeWebhooksOf(client, id);
  });
  return { ...gone, webhooks };
}

async function assertFree(client: Connection, id: string): Promise<void> {
  const uses = await closeQuotas(client, id);
  const left: string[] = [];
  for (const kind of quotaKinds) {
    const { current } = uses[kind];
    if (current === 0) continue;
    const held = await heldBy(client, kind, id, namesLimit);
    const names = held.map(({ name, status }) =>
      /^(deleting|released|rolling_back)$/.test(status) ? `${name}, on its way out` : name,
    );
    const more = current - held.length;
    left.push(
      `${current} ${current === 1 ? singular[kind] : kind} (${names.join('; ')}${more > 0 ? `; and ${more} more` : ''})`,
    );
  }
  if (left.length > 0)
    throw new AccountRuleBroken('team_in_use', `${id} still has ${left.join(' and ')}. Delete them first.`);
}
