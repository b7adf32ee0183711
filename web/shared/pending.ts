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
type WithQuery<T, Q, H = never> = Omit<T, 'parameters'> & {
  parameters: { query?: Q; header?: H; path?: never; cookie?: never };
};

export interface Setup {
  domain: string;
  domain_unicode?: string;
  mode: 'send_receive' | 'send_only';
  verification_status: 'pending' | 'verified' | 'failed';
  verified_at: string | null;
  last_checked_at: string | null;
  next_check_at: string | null;
  retry_at: string | null;
  records: S['RecordSchema'][];
  dns_host?: { name: string | null; zone: string; nameservers: string[]; advice: string[] } | null;
  plan?: S['DnsPlanSchema'] | null;
  domain_connect?: { provider: string; url: string } | null;
}
export interface SetupLink {
  id: string;
  email: string | null;
  expires_at: string;
  created_at: string;
}
export interface Claim {
  id: string;
  domain: string;
  status: string;
  record: { type: 'TXT'; name: string; value: string };
  created_at: string;
  expires_at: string;
  domain_id?: string;
}
type Session = S['MeSchema'] & { expires_at: string };

export interface PendingPaths {
  '/setup': { get: WithQuery<Answer<Setup, 200>, { plan?: boolean }, { 'If-None-Match'?: string }> };
  '/setup/verify': { post: Answer<S['VerificationSchema']> };
  '/setup/zone-file': {
    get: WithQuery<
      { responses: { 200: { headers: object; content: { 'text/plain': string } } }; parameters: object },
      { format?: 'bind' | 'terraform' | 'route53' | 'octodns' | 'dnscontrol' | 'nsupdate' }
    >;
  };
  '/session': {
    get: Answer<Session>;
    post: WithBody<Answer<Session, 201>, { api_key: string }>;
    delete: Answer<{ deleted: true }>;
  };
  '/domains/{id}/setup-link': {
    post: WithBody<
      WithPath<Answer<Omit<SetupLink, 'email'> & { url: string }, 201>, { id: string }>,
      { expires_in_days?: number }
    >;
  };
  '/domains/{id}/setup-links': { get: WithPath<Answer<SetupLink[]>, { id: string }> };
  '/domains/{id}/setup-links/{link}': {
    delete: WithPath<Answer<{ deleted: true; id: string }>, { id: string; link: string }>;
  };
  '/domains/{id}/setup-instructions': {
    post: WithBody<
      WithPath<Answer<{ email: string; id: string; expires_at: string }, 202>, { id: string }>,
      { email: string }
    >;
  };
  '/domains/claims': { get: Answer<Claim[]>; post: WithBody<Answer<Claim, 201>, { domain: string }> };
  '/domains/claims/{id}': { delete: WithPath<Answer<{ deleted: true; id: string }>, { id: string }> };
  '/domains/claims/{id}/verify': { post: WithPath<Answer<Claim>, { id: string }> };
}
