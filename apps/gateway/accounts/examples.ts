/** Examples of answers for the OpenAPI document. */
import { presentKey, presentNewKey } from './keys.dto';
import { presentInvitation, presentOwners } from './owners.dto';

const meta = { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' };
const made = {
  id: 'key_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  team: 'team_abc123',
  name: 'Terraform',
  hint: 'xxxx',
  role: null,
  permissions: ['domain.read'],
  createdAt: new Date('2026-04-15T10:00:00Z'),
  lastUsedAt: null,
  expiresAt: null,
  revokedAt: null,
};
const key = 'smx_root_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx';

export const newKey = { ok: true, data: presentNewKey({ ...made, key }), meta };
export const oneKey = { ok: true, data: presentKey(made), meta };
export const revokedKey = {
  ok: true,
  data: presentKey({ ...made, revokedAt: new Date('2026-04-16T10:00:00Z') }),
  meta,
};
export const keys = { ok: true, data: [presentKey(made)], pagination: { has_more: false }, meta };
export const me = {
  ok: true,
  data: {
    team: { id: 'team_abc123', name: 'Acme' },
    credential: { id: made.id, type: 'api_key', name: made.name },
    label: made.name,
    permissions: ['domain.*', 'mailbox.read', 'mailbox.admin.read'],
    mailboxes: [],
    usage: { domains: 3, mailboxes: 14, webhooks: 2 },
    limits: { domains: 1_000, mailboxes: 10_000, webhooks: 20, requests_per_minute: 600 },
  },
  meta,
};

const invited = { team: made.team, email: 'grace@acme.com', expiresAt: new Date('2026-04-22T10:00:00Z') };
export const invitation = { ok: true, data: presentInvitation(invited), meta };
export const owners = { ok: true, data: presentOwners(['ada@acme.com'], [invited]), meta };
