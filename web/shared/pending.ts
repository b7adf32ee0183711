import type { components } from './api-types';

type S = components['schemas'];
interface Json<T> {
  headers: Record<string, unknown>;
  content: { 'application/json': T };
}
interface Answer<T, Status extends number = 200> {
  parameters: { query?: never; header?: never; path?: never; cookie?: never };
  requestBody?: never;
  responses: Record<Status, Json<{ ok: true; data: T; meta: S['MetaSchema'] }>> & { default: Json<S['ErrorEnvelope']> };
}
type WithPath<T, P> = Omit<T, 'parameters'> & {
  parameters: { query?: never; header?: never; path: P; cookie?: never };
};
type WithBody<T, B> = Omit<T, 'requestBody'> & { requestBody: { content: { 'application/json': B } } };

export interface Claim {
  id: string;
  domain: string;
  status: string;
  record: { type: 'TXT'; name: string; value: string };
  created_at: string;
  expires_at: string;
  last_checked_at: string | null;
  reason?: { code: string; message: string };
  domain_id?: string;
}

interface ClaimPage {
  parameters: { query?: { cursor?: string }; header?: never; path?: never; cookie?: never };
  responses: {
    200: Json<{ ok: true; data: Claim[]; pagination: S['PaginationSchema']; meta: S['MetaSchema'] }>;
    default: Json<S['ErrorEnvelope']>;
  };
}

/** The paths of claims, until the OpenAPI document has them. */
export interface PendingPaths {
  '/domains/claims': { get: ClaimPage; post: WithBody<Answer<Claim, 201>, { domain: string }> };
  '/domains/claims/{id}': { delete: WithPath<Answer<{ deleted: true; id: string }>, { id: string }> };
  '/domains/claims/{id}/verify': { post: WithPath<Answer<Claim>, { id: string }> };
}
