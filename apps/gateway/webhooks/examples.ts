/** Examples of answers for the OpenAPI document. */
import type { Webhook } from '@app/webhooks';
import { presentWebhook } from './webhooks.dto';

const webhook: Webhook = {
  id: 'whk_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  team: 'team_abc123',
  url: 'https://hooks.acme.com/sendmux',
  description: 'CRM, production',
  eventTypes: ['domain.verified', 'domain.failed'],
  domains: null,
  enabled: true,
  disabledBecause: null,
  failingSince: null,
  oldSecretUntil: null,
  createdAt: new Date('2026-04-15T10:00:00Z'),
  updatedAt: new Date('2026-04-15T10:00:00Z'),
  version: 1,
};
const meta = { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' };
const secret = 'whsec_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=';
const rotating: Webhook = {
  ...webhook,
  oldSecretUntil: new Date('2026-04-17T10:00:00Z'),
  updatedAt: new Date('2026-04-16T10:00:00Z'),
  version: 2,
};

export const created = { ok: true, data: { ...presentWebhook(webhook), secret }, meta };
export const rotated = { ok: true, data: { ...presentWebhook(rotating), secret }, meta };
export const one = { ok: true, data: presentWebhook(webhook), meta };
export const page = { ok: true, data: [presentWebhook(webhook)], pagination: { has_more: false }, meta };
export const deleted = { ok: true, data: { deleted: true, id: webhook.id }, meta };
export const tested = { ok: true, data: { event_id: 'msg_clxxxxxxxxxxxxxxxxxxxxxxxxx' }, meta };
