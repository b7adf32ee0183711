/** Answers for the OpenAPI document. */
import type { MailboxView } from '@app/read-model';
import { presentMailbox } from './mailbox.dto';

const view: MailboxView = {
  id: 'mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  address: 'ada@mail.acme.com',
  team: 'team_abc123',
  domainId: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  status: 'active',
  provider: null,
  domainProvider: null,
  createdAt: new Date('2026-04-15T10:30:00Z'),
  version: 1,
};
const meta = { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' };
const shown = (changes: Partial<MailboxView>) => ({ ok: true, data: presentMailbox({ ...view, ...changes }), meta });

export const created = shown({});
export const suspended = shown({ status: 'suspended' });
export const chosen = shown({ provider: 'mailgun' });
export const page = { ok: true, data: [created.data], meta: { ...meta, next_cursor: null, has_more: false } };
export const deleted = { ok: true, data: { deleted: true, id: view.id }, meta };
