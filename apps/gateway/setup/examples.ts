/** Examples of answers for the OpenAPI document. */
import { dnsHost } from '@app/mail-records';
import { added } from '../domains/examples';
import { planned } from '../domains/plans.examples';
import { presentNewSetupLink, presentSentInstructions, presentSetupLink } from './setup-links.dto';

const meta = { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' };
const link = {
  id: 'slnk_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  team: 'team_abc123',
  domainId: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  email: null,
  createdAt: new Date('2026-04-15T10:00:00Z'),
  expiresAt: new Date('2026-04-22T10:00:00Z'),
};
const token = 'smx_setup_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx';

export const newSetupLink = { ok: true, data: presentNewSetupLink({ ...link, token }, 'https://app.sendmux.ai'), meta };
export const setupLinks = { ok: true, data: [presentSetupLink(link)], meta };
export const sentInstructions = { ok: true, data: presentSentInstructions({ ...link, email: 'dns@acme.com' }), meta };
export const revokedSetupLink = { ok: true, data: { deleted: true, id: link.id }, meta };

const { domain, mode, verification_status, verified_at, last_checked_at, next_check_at, records } = added.data;
export const setup = {
  ok: true,
  data: {
    domain,
    mode,
    verification_status,
    verified_at,
    last_checked_at,
    next_check_at,
    retry_at: null,
    records,
    dns_host: dnsHost('acme.com', ['ada.ns.cloudflare.com', 'bob.ns.cloudflare.com']),
    plan: planned.data,
    domain_connect: null,
  },
  meta,
};
