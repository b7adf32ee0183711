/** Examples of answers for the OpenAPI document. */
import type { Delivery, Webhook, WebhookReplay } from '@app/webhooks';
import { presentDelivery, presentPayload } from './deliveries.dto';
import { messages } from './messages';
import { presentReplay } from './replays.dto';
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

const sent: Delivery = {
  id: 'wdlv_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  lane: 'live',
  replay: null,
  message: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx/12',
  type: 'domain.verified',
  subject: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  status: 'delivered',
  tries: 1,
  triedAt: new Date('2026-04-15T10:30:01Z'),
  durationMs: 184,
  responseStatus: 200,
  response: Buffer.from('ok'),
  error: null,
  nextTryAt: null,
  createdAt: new Date('2026-04-15T10:30:00Z'),
};
const again: Delivery = {
  ...sent,
  lane: 'requested',
  status: 'waiting',
  tries: 0,
  nextTryAt: new Date('2026-04-16T08:00:00Z'),
};
export const delivery = { ok: true, data: presentDelivery(sent), meta };
export const waiting = { ok: true, data: presentDelivery(again), meta };
export const deliveries = { ok: true, data: [delivery.data], pagination: { has_more: false }, meta };
export const payload = { ok: true, data: presentPayload(sent, JSON.stringify(messages['domain.verified'])), meta };

const running: WebhookReplay = {
  id: 'rpl_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  webhook: webhook.id,
  from: new Date('2026-03-01T10:00:00Z'),
  to: new Date('2026-03-02T10:00:00Z'),
  types: ['domain.failed'],
  domains: null,
  status: 'running',
  span: { after: 1_000, upTo: 2_000 },
  position: 1_250,
  queued: 120,
  delivered: 110,
  failed: 0,
  createdAt: new Date('2026-04-15T10:00:00Z'),
  endedAt: null,
};
const stopped: WebhookReplay = { ...running, status: 'stopped', endedAt: new Date('2026-04-15T10:00:05Z') };
export const replay = { ok: true, data: presentReplay(running), meta };
export const replays = { ok: true, data: [replay.data], pagination: { has_more: false }, meta };
export const stoppedReplay = { ok: true, data: presentReplay(stopped), meta };
