import { loadSettings, SettingsInvalid } from '@app/runtime';
import { disableWebhook, listWebhooks, resealWebhooks, SecretKeys, showWebhook, type Webhook } from '@app/webhooks';
import type { Command } from 'commander';
import { examples, minute, print, table } from './output';
import { withPool } from './with-pool';

const webhookArgument = ['<webhook>', 'id of the webhook, as `sendmux webhooks list` shows it'] as const;

/** Adds `sendmux webhooks …`. */
export function addWebhookCommands(webhooks: Command): void {
  webhooks
    .command('list')
    .description('the webhooks of all teams, or of one')
    .option('--team <team>', 'only those of this team')
    .addHelpText('after', examples('sendmux webhooks list', 'sendmux webhooks list --team team_4kz81mq0xw'))
    .action(async ({ team }: { team?: string }, command: Command) => {
      const all = await withPool((pool) => listWebhooks(pool, team));
      print(command, all, () =>
        all.length === 0
          ? ['There is no webhook.']
          : table(
              ['WEBHOOK', 'TEAM', 'STATE', 'CREATED', 'URL'],
              all.map((each) => [each.id, each.team, stateOf(each), minute(each.createdAt), shownUrl(each)]),
            ),
      );
    });
  webhooks
    .command('show')
    .description('one webhook, of whichever team')
    .argument(...webhookArgument)
    .addHelpText('after', examples('sendmux webhooks show whk_cl0mx2485ewecos33l7ljg2tr9h'))
    .action(async (id: string, _options: object, command: Command) => {
      const webhook = await withPool((pool) => showWebhook(pool, id));
      print(command, webhook, () => linesOf(webhook));
    });
  webhooks
    .command('disable')
    .description('stops sending to a webhook; what waits for it stays, and its team can enable it again')
    .argument(...webhookArgument)
    .addHelpText('after', examples('sendmux webhooks disable whk_cl0mx2485ewecos33l7ljg2tr9h'))
    .action(async (id: string, _options: object, command: Command) => {
      const webhook = await withPool((pool) => disableWebhook(pool, id));
      print(command, webhook, () => linesOf(webhook));
    });
  webhooks
    .command('reseal')
    .description('encrypts all secrets with the first key of WEBHOOK_SECRET_KEYS; safe to repeat, and while apps run')
    .addHelpText(
      'after',
      `${examples('WEBHOOK_SECRET_KEYS=2026=…,2025=… sendmux webhooks reseal')}

Then wait for a day, since answers that are kept for an Idempotency-Key have secrets too, and remove the old key.`,
    )
    .action(async (_options: object, command: Command) => {
      const { WEBHOOK_SECRET_KEYS: ring } = loadSettings(process.env, ['WEBHOOK_SECRET_KEYS']);
      if (!ring) throw new SettingsInvalid('WEBHOOK_SECRET_KEYS is not set: give the keys that the apps have.');
      const keys = new SecretKeys(ring);
      const done = await withPool((pool) => resealWebhooks(pool, keys));
      print(command, { key: keys.newest, ...done }, () => [
        done.resealed > 0
          ? `The secrets of ${done.resealed === 1 ? 'one webhook' : `${done.resealed} webhooks`} are now encrypted with the key "${keys.newest}".`
          : `There was nothing to encrypt anew with the key "${keys.newest}".`,
        ...done.unreadable.map(({ why }) => why),
      ]);
      if (done.unreadable.length > 0)
        throw new Error(
          `The secrets of ${done.unreadable.length === 1 ? 'one webhook' : `${done.unreadable.length} webhooks`} cannot be read; all others are encrypted with the first key.`,
        );
    });
}

/** A query string may have a secret of the customer. */
function shownUrl({ url }: Webhook): string {
  const [bare, query] = url.split('?', 2);
  return query === undefined ? bare! : `${bare}?…`;
}

function stateOf({ enabled, disabledBecause, failingSince }: Webhook): string {
  if (!enabled) return disabledBecause === null ? 'disabled' : `disabled: ${disabledBecause}`;
  return failingSince === null ? 'enabled' : `failing since ${minute(failingSince)}`;
}

const linesOf = (webhook: Webhook): string[] => [
  `${webhook.id}  of ${webhook.team}: ${stateOf(webhook)}`,
  `URL          ${shownUrl(webhook)}`,
  `Description  ${webhook.description ?? '-'}`,
  `Types        ${webhook.eventTypes?.join(', ') ?? 'all'}`,
  `Domains      ${webhook.domains?.join(', ') ?? 'all'}`,
  `Created      ${minute(webhook.createdAt)}; changed ${minute(webhook.updatedAt)}`,
];
