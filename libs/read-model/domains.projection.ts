import type { InlineProjection, ProjectedRow } from '@app/event-store';
import { otherShardOf, type MailDomain } from '@app/mail-domain';
import { defaultShard } from '@app/runtime';
import { seenFinding, type Assessment, type SeenFinding } from '@app/mail-records';

/** The table `domains`: one row a stream, written in the append's transaction. */
export const domainsProjection: InlineProjection = {
  table: 'domains',
  key: 'id',
  columns: {
    id: 'text',
    name: 'text',
    team: 'text',
    status: 'text',
    mode: 'text',
    ses_dkim_status: 'text',
    dkim_tokens: 'json',
    dkim_zone: 'text',
    ses_region: 'text',
    ses_shard: 'text',
    ses_other_shard: 'text',
    next_dkim: 'json',
    ses_mail_from_status: 'text',
    ses_identity: 'jsonb',
    last_look: 'jsonb',
    verified_at: 'timestamptz',
    first_verified_at: 'timestamptz',
    expires_at: 'timestamptz',
    checked_at: 'timestamptz',
    outbound_provider: 'text',
    receiving_since: 'timestamptz',
    created_at: 'timestamptz',
    updated_at: 'timestamptz',
    version: 'integer',
  },
  contended: 'name',
};

/** What is kept of the last recorded look, for the status of each record. */
export interface LastLook {
  /** Whether SES gave an answer. */
  readonly sesAnswered: boolean;
  readonly findings: readonly SeenFinding[];
}

const lastLook = ({ findings, sesDkimStatus }: Assessment): LastLook => ({
  sesAnswered: sesDkimStatus !== null,
  findings: findings.map(seenFinding),
});

/** Gives the row of a domain after `version` events, the last of them at `at`. A pure function of the stream. */
export function domainRow(state: MailDomain, version: number, at: string): ProjectedRow {
  if (state.status === 'absent') throw new Error('A domain that was never added has no row.');
  const provisioned = 'dkimTokens' in state ? state : undefined;
  return {
    id: state.id,
    name: state.name,
    team: state.team,
    status: state.status,
    mode: state.mode ?? 'send_receive',
    ses_dkim_status: provisioned?.sesDkimStatus ?? null,
    dkim_tokens: provisioned?.dkimTokens ?? null,
    dkim_zone: provisioned?.dkimZone ?? null,
    ses_region: provisioned?.sesRegion ?? null,
    ses_shard: state.sesShard ?? defaultShard,
    ses_other_shard: otherShardOf(state) ?? null,
    next_dkim: provisioned?.nextDkim ?? null,
    ses_mail_from_status: provisioned?.sesMailFromStatus ?? null,
    ses_identity: provisioned?.sesIdentity ?? null,
    last_look: provisioned?.lastAssessment ? lastLook(provisioned.lastAssessment) : null,
    verified_at: provisioned?.verifiedAt ?? null,
    first_verified_at: provisioned?.firstVerifiedAt ?? null,
    expires_at: provisioned?.expiresAt ?? null,
    checked_at: provisioned?.checkedAt ?? null,
    outbound_provider: provisioned?.outboundProvider ?? null,
    receiving_since: state.receivingSince ?? null,
    created_at: state.addedAt,
    updated_at: at,
    version,
  };
}
