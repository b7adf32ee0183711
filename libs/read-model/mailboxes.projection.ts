import type { InlineProjection, ProjectedRow } from '@app/event-store';
import type { Mailbox } from '@app/mailbox';

/** The table `mailboxes`: one row a stream, written in the append's transaction. */
export const mailboxesProjection: InlineProjection = {
  table: 'mailboxes',
  key: 'id',
  columns: {
    id: 'text',
    address: 'text',
    team: 'text',
    domain_id: 'text',
    status: 'text',
    outbound_provider: 'text',
    display_name: 'text',
    created_at: 'timestamptz',
    updated_at: 'timestamptz',
    version: 'integer',
  },
  contended: 'address',
};

/** Gives the row of a mailbox after `version` events, the last of them at `at`. A pure function of the stream. */
export function mailboxRow(state: Mailbox, version: number, at: string): ProjectedRow {
  if (state.status === 'absent') throw new Error('A mailbox that was never created has no row.');
  const { id, address, team, domainId, status, provider, displayName, createdAt } = state;
  return {
    id,
    address,
    team,
    status,
    version,
    domain_id: domainId,
    outbound_provider: provider,
    display_name: displayName,
    created_at: createdAt,
    // An erasure later on says nothing about until when it was there.
    updated_at: state.status === 'deleted' ? state.deletedAt : at,
  };
}
