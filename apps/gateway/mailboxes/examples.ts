/** Examples of answers for the OpenAPI document. */
import { presentMailbox } from '@app/presentation';
import type { MailboxView } from '@app/read-model';
import { presentNewMailbox } from './mailbox.dto';

export const view: MailboxView = {
  id: 'mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  address: 'ada@mail.acme.com',
  team: 'team_abc123',
  domainId: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  status: 'active',
  provider: null,
  domainProvider: null,
  displayName: null,
  createdAt: new Date('2026-04-15T10:30:00Z'),
  version: 1,
};
const meta = { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' };
const shown = (changes: Partial<MailboxView>) => ({ ok: true, data: presentMailbox({ ...view, ...changes }), meta });

export const created = shown({});
export const createdNow = { ok: true, data: presentNewMailbox(view), meta };
export const named = shown({ displayName: 'Ada Lovelace' });
export const available = { ok: true, data: { email: view.address, available: true, reason: 'available' }, meta };
export const suspended = shown({ status: 'suspended' });
export const chosen = shown({ provider: 'mailgun' });
export const page = { ok: true, data: [created.data], pagination: { has_more: false }, meta };
export const deleted = { ok: true, data: { deleted: true, id: view.id }, meta };
