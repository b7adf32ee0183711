import { domainToUnicode } from 'node:url';
import { ApiProperty, ApiPropertyOptional, type ApiPropertyOptions } from '@nestjs/swagger';
import { IsString, Matches } from 'class-validator';
import { dnsRecords, recordSets, sesDkimStatuses, type DnsRecords } from '@app/mail-records';
import type { CheckTimes } from '@app/cycle';
import type { DomainView } from '@app/read-model';
import { MetaSchema } from '../http/openapi';
import { PageEnvelope } from '../http/paging';
import { dnsRecordsSchema } from './dns-records.schema';

export class AddDomainRequest {
  @ApiProperty({
    example: 'mail.acme.com',
    description: 'The fully qualified hostname. Case, one trailing dot and the script are yours to choose.',
    minLength: 1,
    maxLength: 1000,
  })
  // class-validator runs the decorators from the bottom up, and stops at the first that fails.
  @Matches(/^[^]{1,1000}$/, { message: '"domain" must have 1 to 1000 characters' })
  @IsString({ message: '"domain" must be a string, such as "mail.acme.com"' })
  domain: string;
}

/** Documents the path parameter `id`. */
export const idParam = { name: 'id', example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx' } as const;

export const domainIdForm = /^mdom_cl[0-9a-z]{25}$/;

export const time = { type: 'string', format: 'date-time', example: '2026-04-15T10:00:00Z' } as const;

export class DomainSchema {
  @ApiProperty({ example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
  @ApiProperty({ example: 'mail.acme.com', description: 'Canonical: lower case, A-labels, no trailing dot.' })
  domain: string;
  @ApiPropertyOptional({ example: 'münchen.example.de', description: 'Only of an internationalised name.' })
  domain_unicode?: string;
  @ApiProperty({
    enum: ['pending', 'verified', 'failed'],
    description: '`pending` also while the domain is being deleted: it can take no mailbox any more.',
  })
  verification_status: string;
  @ApiProperty({ enum: sesDkimStatuses, description: 'What Amazon SES says of the three CNAMEs.' })
  ses_dkim_status: string;
  @ApiProperty({ ...time, nullable: true, description: 'Time of the last success.' })
  verified_at: string | null;
  @ApiProperty(time)
  created_at: string;
  @ApiProperty({ ...dnsRecordsSchema(), description: 'The records to place.' } as ApiPropertyOptions)
  dns_records: DnsRecords;
  @ApiProperty({
    ...time,
    nullable: true,
    description: 'When the records were last looked at, by the cycle or on request. It does not change the ETag.',
  })
  last_checked_at: string | null;
  @ApiProperty({
    ...time,
    nullable: true,
    description:
      'When the cycle looks next, without being asked; null of a domain that it leaves out. It does not change the ETag.',
  })
  next_check_at: string | null;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: null,
    description: 'What its mailboxes send through, but those that have chosen for themselves; null for Sendmux SES.',
  })
  outbound_provider: string | null;
  @ApiProperty({ example: false, description: 'Whether it is being deleted. That is never undone.' })
  deleting: boolean;
}

export class Envelope {
  @ApiProperty({ enum: [true] })
  ok: boolean;
  @ApiProperty({ type: MetaSchema })
  meta: MetaSchema;
}

export class DomainEnvelope extends Envelope {
  @ApiProperty({ type: DomainSchema })
  data: DomainSchema;
}

class DomainMetaSchema extends MetaSchema {
  @ApiPropertyOptional({
    type: 'string',
    format: 'date-time',
    example: '2026-04-15T10:00:00.000Z',
    description: 'Of a read with `as_of`: the time that was understood.',
  })
  as_of?: string;
}

export class DomainReadEnvelope {
  @ApiProperty({ enum: [true] })
  ok: boolean;
  @ApiProperty({ type: DomainSchema })
  data: DomainSchema;
  @ApiProperty({ type: DomainMetaSchema })
  meta: DomainMetaSchema;
}

export class DomainPageEnvelope extends PageEnvelope {
  @ApiProperty({ type: [DomainSchema], description: 'The newest first.' })
  data: DomainSchema[];
}

class RecordToRemoveSchema {
  @ApiProperty({ enum: ['MX', 'TXT', 'CNAME'] })
  type: string;
  @ApiProperty({ example: 'mail.acme.com' })
  name: string;
  @ApiProperty({ example: '10 mail.sendmux.ai' })
  value: string;
}

export class DeletionSchema {
  @ApiProperty({ enum: [true] })
  deleted: boolean;
  @ApiProperty({ example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
  @ApiProperty({ type: [RecordToRemoveSchema], description: 'Your duty: left over, MX and SPF keep authorising us.' })
  records_to_remove: RecordToRemoveSchema[];
}

export class DeletionEnvelope extends Envelope {
  @ApiProperty({ type: DeletionSchema })
  data: DeletionSchema;
}

/** Formats a time in UTC with seconds precision, as the product guide shows times. */
export const shown = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`;

/** Presents a domain with the fields of the product guide, in the order of the guide. */
export function presentDomain(view: DomainView, { lastCheckedAt, nextCheckAt }: CheckTimes): DomainSchema {
  const { id, name, status, sesDkimStatus, verifiedAt, createdAt } = view;
  const { mx, spf, dmarc, dkim, verification, ...others } = dnsRecords(view);
  const isDeleting = status === 'deleting';
  return {
    id,
    domain: name,
    ...(/(^|\.)xn--/.test(name) && { domain_unicode: domainToUnicode(name) }),
    verification_status: isDeleting ? 'pending' : status,
    ses_dkim_status: sesDkimStatus,
    verified_at: verifiedAt && shown(verifiedAt),
    created_at: shown(createdAt),
    dns_records: { mx, spf, dmarc, dkim, verification, ...others },
    last_checked_at: lastCheckedAt && shown(lastCheckedAt),
    next_check_at: nextCheckAt && shown(nextCheckAt),
    outbound_provider: view.outboundProvider,
    deleting: isDeleting,
  };
}

export function presentDeletion(view: DomainView): DeletionSchema {
  return {
    deleted: true,
    id: view.id,
    records_to_remove: recordSets(view).flatMap(({ type, name, values }) =>
      values.map((value) => ({ type, name, value })),
    ),
  };
}
