import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { ownership } from '@app/mail-records';
import { shown } from '@app/presentation';
import { AddDomainRequest, Envelope, time } from '../domains/domain.dto';
import { extensible } from '../http/openapi';
import { PageEnvelope } from '../http/paging';
import type { ClaimStatus, StoredClaim } from './stored-claims';

const statuses: readonly ClaimStatus[] = ['pending', 'refused', 'succeeded', 'failed', 'expired'];

/** The domain to claim, as it would be added. */
export class ClaimRequest extends AddDomainRequest {}

/** Documents the path parameter `id`. */
export const claimIdParam = { name: 'id', example: 'claim_clxxxxxxxxxxxxxxxxxxxxxxxxx' } as const;

class ClaimRecordSchema {
  @ApiProperty({ enum: ['TXT'] })
  type: string;
  @ApiProperty({ example: '_sendmux.mail.acme.com' })
  name: string;
  @ApiProperty({ example: 'sendmux-verify=team_abc123', description: 'It may stand beside the values of other teams.' })
  value: string;
}

class ClaimReasonSchema {
  @ApiProperty({ example: 'txt_missing', description: 'Stable: a code of the check verification_txt, or `held_…`.' })
  code: string;
  @ApiProperty({ description: 'What was found, and what to do; for people.' })
  message: string;
}

export class ClaimSchema {
  @ApiProperty({ example: claimIdParam.example })
  id: string;
  @ApiProperty({ example: 'mail.acme.com' })
  domain: string;
  @ApiProperty({
    ...extensible(statuses),
    example: 'pending',
    description:
      '`pending`: the record was not seen yet. `refused`: it was, and another team still holds the name; it may be verified again until it expires. `succeeded`: the domain is your team’s, as `domain_id`. `failed`: it was, and could not be provisioned; the name is free. `expired`: it has ended by itself.',
  })
  status: string;
  @ApiProperty({ type: ClaimRecordSchema, description: 'The record that proves that the name is your team’s.' })
  record: ClaimRecordSchema;
  @ApiProperty({ ...time })
  created_at: string;
  @ApiProperty({ ...time, description: 'When it ends by itself.' })
  expires_at: string;
  @ApiProperty({ ...time, nullable: true, description: 'When the record was looked for last.' })
  last_checked_at: string | null;
  @ApiPropertyOptional({ type: ClaimReasonSchema, description: 'Why the last look has not led to success.' })
  reason?: ClaimReasonSchema;
  @ApiPropertyOptional({ example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx', description: 'Once it has succeeded.' })
  domain_id?: string;
}

export class ClaimEnvelope extends Envelope {
  @ApiProperty({ type: ClaimSchema })
  data: ClaimSchema;
}

export class ClaimPageEnvelope extends PageEnvelope {
  @ApiProperty({ type: [ClaimSchema], description: 'The newest first.' })
  data: ClaimSchema[];
}

class WithdrawnSchema {
  @ApiProperty({ enum: [true] })
  deleted: boolean;
  @ApiProperty({ example: claimIdParam.example })
  id: string;
}

export class WithdrawnEnvelope extends Envelope {
  @ApiProperty({ type: WithdrawnSchema })
  data: WithdrawnSchema;
}

export function presentClaim(claim: StoredClaim): ClaimSchema {
  const { id, name, team, status, createdAt, expiresAt, lookedAt, refusal, domainId } = claim;
  const [record] = ownership.records({ name, team, dkimTokens: [], dkimZone: '', sesRegion: '' });
  const isOpen = status === 'pending' || status === 'refused';
  return {
    id,
    domain: name,
    status,
    record: { type: record!.type, name: record!.name, value: record!.values[0]! },
    created_at: shown(createdAt),
    expires_at: shown(expiresAt),
    last_checked_at: lookedAt && shown(lookedAt),
    ...(isOpen && refusal && { reason: refusal }),
    ...(status === 'succeeded' && { domain_id: domainId }),
  };
}

const example: StoredClaim = {
  id: claimIdParam.example,
  team: 'team_abc123',
  name: 'mail.acme.com',
  mode: 'send_receive',
  domainId: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
  status: 'pending',
  createdAt: new Date('2026-04-15T10:00:00Z'),
  expiresAt: new Date('2026-04-29T10:00:00Z'),
  lookedAt: null,
  refusal: null,
};
const meta = { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' };
const won: StoredClaim = { ...example, status: 'succeeded', lookedAt: new Date('2026-04-15T10:30:00Z') };

/** Examples of answers for the OpenAPI document. */
export const examples = {
  opened: { ok: true, data: presentClaim(example), meta },
  won: { ok: true, data: presentClaim(won), meta },
  page: { ok: true, data: [presentClaim(example)], pagination: { has_more: false }, meta },
  withdrawn: { ok: true, data: { deleted: true, id: example.id }, meta },
};
