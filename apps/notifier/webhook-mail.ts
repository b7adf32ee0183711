import type { DisabledWebhook } from '@app/webhooks';
import { day, visible, type FailureMail } from './failure-mail';
import { letter } from './letter';

const because = {
  gone: 'it answered 410 (Gone), by which it asks for no more',
  failing: 'for five days each delivery to it has failed',
} as const;

/**
 * Writes the mail which says that a webhook was disabled.
 *
 * @param at when it was disabled (ISO 8601).
 */
export function webhookMail(
  webhook: Pick<DisabledWebhook, 'id' | 'url' | 'description' | 'because'>,
  at: string,
): FailureMail {
  // The query of a URL may hold a secret.
  const { origin, host, pathname } = new URL(webhook.url);
  const called = webhook.description === null ? webhook.id : `${webhook.id}, “${visible(webhook.description)}”`;
  return letter({
    subject: `Your webhook to ${host} is disabled`,
    title: `Your webhook to ${host} is disabled`,
    paragraphs: [
      `On ${day(at)} at ${at.slice(11, 16)} UTC we disabled your team’s webhook to ${visible(origin + pathname)} (${called}), because ${because[webhook.because]}.`,
      'What is not delivered yet is kept for 30 days, and goes out once you enable the webhook again: in the console under Webhooks, or by PATCH /api/v1/webhooks/' +
        `${webhook.id} with {"enabled": true}. Events from now until then are not kept for it: a replay brings them.`,
      'If you no longer need it, delete it. GET /api/v1/webhooks/' +
        `${webhook.id}/deliveries says how each try ended.`,
    ],
    why: 'You receive this mail, once, because you are an owner of the team that created the webhook.',
  });
}
