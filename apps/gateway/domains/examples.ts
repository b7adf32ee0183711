/** Answers as the product guide shows them, for the OpenAPI document. */
import { dnsRecords, explain, initialState, judge, noClues, type DomainAdded } from '@app/mail-domain';
import type { DomainView } from '@app/read-model';
import { presentDeletion, presentDomain } from './domain.dto';
import { presentEntry } from './history.dto';
import { presentVerification } from './verification.dto';

const view: DomainView = {
  id: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  name: 'mail.acme.com',
  team: 'team_abc123',
  status: 'pending',
  sesDkimStatus: 'pending',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  verifiedAt: null,
  checkedAt: null,
  outboundProvider: null,
  createdAt: new Date('2026-04-15T10:00:00Z'),
  version: 2,
};
const request_id = 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx';
const { spf, dmarc, verification } = dnsRecords(view);

export const added = {
  ok: true,
  data: presentDomain(view, { lastCheckedAt: null, nextCheckAt: new Date('2026-04-15T10:01:00Z') }),
  meta: { request_id },
};

export const page = { ok: true, data: [added.data], meta: { request_id, next_cursor: null, has_more: false } };

/** Two resolvers that have seen everything. */
const seen = <Rr>(...records: Rr[]) => {
  const evidence = { ttl: 300, authenticated: true };
  return Array.from({ length: 2 }, () => ({ kind: 'records' as const, records, aliases: [], evidence }));
};
const answers = {
  mx: seen({ preference: 10, exchange: 'mail.sendmux.ai' }),
  spf: seen(spf.value),
  dmarc: seen(dmarc.value),
  verification: seen(verification.value),
};
const assessment = judge(view, answers, 'success');
const ses = {
  errorType: null,
  lastCheckedAt: new Date('2026-04-15T10:20:00Z'),
  deadline: new Date('2026-04-18T10:00:00Z'),
  isRestarted: false,
};
const explained = explain(view, { assessment, answers, clues: noClues, ses }).map((each) => ({
  ...each,
  resolvers: each.resolvers.map((evidence, i) => ({
    resolver: ['one.example/dns-query', 'other.example/dns-query'][i]!,
    ...evidence,
  })),
}));

export const verified = {
  ok: true,
  data: presentVerification(
    { name: view.name, status: 'verified', sesDkimStatus: 'success' },
    assessment,
    explained,
    ses,
    new Date('2026-04-15T10:30:00Z'),
  ),
  meta: { request_id },
};

export const deleted = { ok: true, data: presentDeletion(view), meta: { request_id } };

const addedEvent: DomainAdded = {
  ...{ type: 'DomainAdded', domainId: view.id, at: '2026-04-15T10:00:00.000Z' },
  data: { name: view.name, team: view.team, deadline: '2026-04-15T10:00:30.000Z' },
};
const recorded = {
  ...{ position: 1, stream: view.id, version: 1, schemaVersion: 1, time: addedEvent.at },
  ...{ type: addedEvent.type, data: addedEvent.data },
  metadata: { actor: 'key_clxxxxxxxxxxxxxxxxxxxxxxxxx', requestId: request_id, correlationId: request_id },
};

export const history = {
  ok: true,
  data: [presentEntry(recorded, addedEvent, initialState)],
  meta: { request_id, next_cursor: null, has_more: false },
};
