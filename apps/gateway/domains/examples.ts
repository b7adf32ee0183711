/** Answers as the product guide shows them, for the OpenAPI document. */
import { dnsRecords } from '@app/mail-domain';
import type { DomainView } from '@app/read-model';
import { presentDeletion, presentDomain } from './domain.dto';

const view: DomainView = {
  id: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  name: 'mail.acme.com',
  team: 'team_abc123',
  status: 'pending',
  sesDkimStatus: 'pending',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  verifiedAt: null,
  createdAt: new Date('2026-04-15T10:00:00Z'),
  version: 2,
};
const request_id = 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx';
const { mx } = dnsRecords(view);

export const added = { ok: true, data: presentDomain(view), meta: { request_id } };

export const page = { ok: true, data: [added.data], meta: { request_id, next_cursor: null, has_more: false } };

export const verified = {
  ok: true,
  data: {
    status: 'verified',
    ses_dkim_status: 'success',
    checks: { mx: true, verification_txt: true, spf: true, dmarc: true },
    details: [
      {
        check: 'mx',
        outcome: 'pass',
        code: 'ok',
        message: 'The MX record is in place.',
        name: view.name,
        type: 'MX',
        expected: `${mx[0]!.priority} ${mx[0]!.target}`,
        observed: [`${mx[0]!.priority} ${mx[0]!.target}`],
      },
    ],
  },
  meta: { request_id },
};

export const deleted = { ok: true, data: presentDeletion(view), meta: { request_id } };
