import { domainToUnicode } from 'node:url';
import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsString, Matches } from 'class-validator';
import { dnsRecords, sesDkimStatuses, type DnsRecords } from '@app/mail-domain';
import type { CheckTimes } from '@app/cycle';
import type { DomainView } from '@app/read-model';
import { MetaSchema } from '../http/openapi';
import { PageMetaSchema } from '../http/paging';

export class AddDomainRequest {
  @ApiProperty({
    example: 'mail.acme.com',
    description: 'The fully qualified hostname. Case, one trailing dot and the script are yours to choose.',
    maxLength: 1000,
  })
  // The lowest comes first, and the first that fails speaks alone.
  @Matches(/^[^]{1,1000}$/, { message: '"domain" must have 1 to 1000 characters' })
  @IsString({ message: '"domain" must be a string, such as "mail.acme.com"' })
  domain: string;
}

export const domainIdForm = /^mdom_cl[0-9a-z]{25}$/;

class MxRecordSchema {
  @ApiProperty({ example: 10 })
  priority: number;
  @ApiProperty({ example: 'mail.sendmux.ai' })
  target: string;
  @ApiProperty({ example: 'mail', description: 'The name relative to your registrable domain; `@` at its top.' })
  host: string;
}

class NamedValueSchema {
  @ApiProperty({ example: '_dmarc.mail.acme.com' })
  name: string;
  @ApiProperty({ example: 'v=DMARC1; p=quarantine' })
  value: string;
  @ApiProperty({
    example: '_dmarc.mail',
    description: 'The name relative to your registrable domain, as DNS providers ask for it; `@` at its top.',
  })
  host: string;
}

class DnsRecordsSchema {
  @ApiProperty({ type: [MxRecordSchema] })
  mx: MxRecordSchema[];
  @ApiProperty({ type: NamedValueSchema, description: 'TXT' })
  spf: NamedValueSchema;
  @ApiProperty({ type: NamedValueSchema, description: 'TXT' })
  dmarc: NamedValueSchema;
  @ApiProperty({ type: [NamedValueSchema], description: 'CNAME' })
  dkim: NamedValueSchema[];
  @ApiProperty({ type: NamedValueSchema, description: 'TXT that proves ownership; unique to your team' })
  verification: NamedValueSchema;
}

export const time = { type: 'string', format: 'date-time', example: '2026-04-15T10:00:00Z' } as const;

export class DomainSchema {
  @ApiProperty({ example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
  @ApiProperty({ example: 'mail.acme.com', description: 'Canonical: lower case, A-labels, no trailing dot.' })
  domain: string;
  @ApiPropertyOptional({ example: 'münchen.example.de', description: 'Only of an internationalised name.' })
  domain_unicode?: string;
  @ApiProperty({ enum: ['pending', 'verified', 'failed', 'deleting'] })
  verification_status: string;
  @ApiProperty({ enum: sesDkimStatuses, description: 'What Amazon SES says of the three CNAMEs.' })
  ses_dkim_status: string;
  @ApiProperty({ ...time, nullable: true, description: 'Time of the last success.' })
  verified_at: string | null;
  @ApiProperty(time)
  created_at: string;
  @ApiProperty({ type: DnsRecordsSchema })
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

export class DomainPageEnvelope {
  @ApiProperty({ enum: [true] })
  ok: boolean;
  @ApiProperty({ type: [DomainSchema], description: 'The newest first.' })
  data: DomainSchema[];
  @ApiProperty({ type: PageMetaSchema })
  meta: PageMetaSchema;
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

/** Seconds precision, as the guide shows times. */
export const shown = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`;

/** A domain as the guide shows it: the same fields in the same order. */
export function presentDomain(view: DomainView, { lastCheckedAt, nextCheckAt }: CheckTimes): DomainSchema {
  const { id, name, status, sesDkimStatus, verifiedAt, createdAt } = view;
  return {
    id,
    domain: name,
    ...(/(^|\.)xn--/.test(name) && { domain_unicode: domainToUnicode(name) }),
    verification_status: status,
    ses_dkim_status: sesDkimStatus,
    verified_at: verifiedAt && shown(verifiedAt),
    created_at: shown(createdAt),
    dns_records: dnsRecords(view),
    last_checked_at: lastCheckedAt && shown(lastCheckedAt),
    next_check_at: nextCheckAt && shown(nextCheckAt),
    outbound_provider: view.outboundProvider,
  };
}

export function presentDeletion(view: DomainView): DeletionSchema {
  const { mx, spf, dmarc, dkim, verification } = dnsRecords(view);
  return {
    deleted: true,
    id: view.id,
    records_to_remove: [
      ...mx.map(({ priority, target }) => ({ type: 'MX', name: view.name, value: `${priority} ${target}` })),
      ...[spf, dmarc, verification].map(({ name, value }) => ({ type: 'TXT', name, value })),
      ...dkim.map(({ name, value }) => ({ type: 'CNAME', name, value })),
    ],
  };
}
