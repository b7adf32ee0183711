import { sendmuxSes } from '@app/mailbox';
import type { MailboxView } from '@app/read-model';
import { shown } from './shown-time';

/** A mailbox as customers are shown it. */
export interface PresentedMailbox {
  readonly id: string;
  /** Empty once it is erased. */
  readonly address: string;
  /** The same as `address`. */
  readonly email: string;
  readonly display_name: string | null;
  readonly quota_bytes: number | null;
  readonly send_scope: { readonly type: string; readonly provider_public_ids?: string[] } | null;
  readonly domain_id: string | null;
  readonly status: string;
  readonly outbound_provider: string | null;
  readonly effective_outbound_provider: string;
  /** RFC 3339, in seconds. */
  readonly created_at: string;
}

export const presentMailbox = (view: MailboxView): PresentedMailbox => ({
  id: view.id,
  address: view.address ?? '',
  email: view.address ?? '',
  display_name: view.displayName,
  quota_bytes: null,
  send_scope: view.provider === null ? null : { type: 'providers', provider_public_ids: [view.provider] },
  domain_id: view.domainId,
  status: view.status,
  outbound_provider: view.provider,
  effective_outbound_provider: view.provider ?? view.domainProvider ?? sendmuxSes,
  created_at: shown(view.createdAt),
});
