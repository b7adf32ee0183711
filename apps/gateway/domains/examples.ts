/** Examples of answers for the OpenAPI document, as the product guide shows them. */
import { initialState, type DomainAdded } from '@app/mail-domain';
import { Answers, answersInPlace, explain, judge } from '@app/mail-records';
import { presentDeletion, presentDomain } from '@app/presentation';
import type { DomainView } from '@app/read-model';
import { presentEntry } from './history.dto';
import { presentVerification } from './verification.dto';

export const view: DomainView = {
  id: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  name: 'mail.acme.com',
  team: 'team_abc123',
  status: 'pending',
  mode: 'send_receive',
  sesDkimStatus: 'pending',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
  sesShard: 'default',
  nextDkim: null,
  sesMailFromStatus: null,
  sesIdentity: null,
  lastLook: null,
  verifiedAt: null,
  checkedAt: null,
  outboundProvider: null,
  createdAt: new Date('2026-04-15T10:00:00Z'),
  receivingSince: null,
  mailboxCount: 0,
  version: 2,
};
const request_id = 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx';

export const added = {
  ok: true,
  data: presentDomain(view, { lastCheckedAt: null, nextCheckAt: new Date('2026-04-15T10:01:00Z') }),
  meta: { request_id },
};

export const page = { ok: true, data: [added.data], pagination: { has_more: false }, meta: { request_id } };

const answers = answersInPlace(view, 2, { ttl: 300, authenticated: true });
const assessment = judge(view, answers, 'success');
const ses = {
  errorType: null,
  lastCheckedAt: new Date('2026-04-15T10:20:00Z'),
  deadline: new Date('2026-04-18T10:00:00Z'),
  isRestarted: false,
};
const explained = explain(view, { assessment, answers, clues: new Answers(), ses }).map((each) => ({
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

export const filters = {
  ok: true,
  data: {
    mode: 'allowlist',
    rules: [
      { type: 'allow', pattern: 'partner.com', note: 'billing' },
      { type: 'deny', pattern: 'robot@partner.com', note: null },
    ],
  },
  meta: { request_id },
};

const addedEvent: DomainAdded = {
  type: 'DomainAdded',
  domainId: view.id,
  at: '2026-04-15T10:00:00.000Z',
  data: { name: view.name, team: view.team, deadline: '2026-04-15T10:00:30.000Z' },
};
const recorded = {
  position: 1,
  stream: view.id,
  version: 1,
  schemaVersion: 1,
  time: addedEvent.at,
  type: addedEvent.type,
  data: addedEvent.data,
  metadata: { actor: 'key_clxxxxxxxxxxxxxxxxxxxxxxxxx', requestId: request_id, correlationId: request_id },
};

export const history = {
  ok: true,
  data: [presentEntry(recorded, addedEvent, initialState)],
  pagination: { has_more: false },
  meta: { request_id },
};
