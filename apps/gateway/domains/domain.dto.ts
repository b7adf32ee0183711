import { ApiProperty, ApiPropertyOptional, type ApiPropertyOptions } from '@nestjs/swagger';
import { IsIn, IsOptional, IsString, Matches } from 'class-validator';
import {
  domainModes,
  recordStatuses,
  sesDkimStatuses,
  sesMailFromStatuses,
  type DnsRecords,
  type DomainMode,
} from '@app/mail-records';
import type { PresentedDeletion, PresentedDomain, PresentedRecord, RecordToRemove } from '@app/presentation';
import { MayBeAbsent } from '../http/may-be-absent';
import { MetaSchema } from '../http/openapi';
import { PageEnvelope, PageQuery } from '../http/paging';
import { dnsRecordsSchema } from './dns-records.schema';
import { PreflightFindingSchema } from './plans.dto';

export const verificationStatuses = ['pending', 'verified', 'failed'] as const;

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

  @ApiPropertyOptional({
    enum: domainModes,
    default: 'send_receive',
    description:
      '`send_only` leaves the MX of the domain as it is: mail for it goes on to whoever receives it now, and it can have no mailbox. It can be upgraded later, and not taken back.',
  })
  @MayBeAbsent()
  @IsIn(domainModes, { message: `"mode" must be one of ${domainModes.join(', ')}` })
  mode?: DomainMode;
}

/** The shortest part of a name that can be searched: an index knows names by three characters in a row. */
const shortestPart = 3;

export class DomainPageQuery extends PageQuery {
  @ApiPropertyOptional({ enum: verificationStatuses, description: 'Only those with this `verification_status`.' })
  @IsOptional()
  @IsIn(verificationStatuses, { message: `"status" must be one of ${verificationStatuses.join(', ')}` })
  status?: (typeof verificationStatuses)[number];

  @ApiPropertyOptional({ enum: domainModes, description: 'Only those with this `mode`.' })
  @IsOptional()
  @IsIn(domainModes, { message: `"mode" must be one of ${domainModes.join(', ')}` })
  mode?: DomainMode;

  @ApiPropertyOptional({
    example: 'acme',
    minLength: shortestPart,
    maxLength: 253,
    pattern: '^[A-Za-z0-9.-]+$',
    description: 'Only those with this in their `domain`, in any case.',
  })
  @IsOptional()
  @Matches(/^[a-z0-9.-]{3,253}$/i, {
    message: `"name" must be ${shortestPart} to 253 characters of a domain name: letters, digits, hyphens and dots`,
  })
  name?: string;
}

export class UpgradeDomainRequest {
  @ApiProperty({
    enum: ['send_receive'],
    example: 'send_receive',
    description: 'A domain that only sent mail is to receive it too.',
  })
  @IsIn(['send_receive'], {
    message:
      '"mode" must be "send_receive": a domain that receives mail never goes back to sending only. Delete it, and add it again with the mode send_only',
  })
  mode: 'send_receive';
}

/** Documents the path parameter `id`. */
export const idParam = { name: 'id', example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx' } as const;

export const domainIdForm = /^mdom_cl[0-9a-z]{25}$/;

export const time = { type: 'string', format: 'date-time', example: '2026-04-15T10:00:00Z' } as const;

export class RecordSchema implements PresentedRecord {
  @ApiProperty({ enum: ['MX', 'TXT', 'CNAME'] })
  type: string;
  @ApiProperty({ example: 'mail.acme.com' })
  name: string;
  @ApiProperty({ example: 'mail', description: 'The name relative to your registrable domain; `@` at its top.' })
  host: string;
  @ApiProperty({ example: '10 mail.sendmux.ai' })
  value: string;
  @ApiProperty({ type: 'integer', example: 300, description: 'Seconds, as advised while a domain is set up.' })
  ttl: number;
  @ApiProperty({ example: 'mx', description: 'The check that wants it, as in `checks` of a verification, or `dkim`.' })
  purpose: string;
  @ApiProperty({
    enum: recordStatuses,
    description:
      '`missing`: it was not there; Amazon SES, which looks for the DKIM records, has not seen it. `wrong`: another was there. `propagating`: resolvers gave different answers, in a look that another record decided. `not_checked`: no look has asked for it, or none had an answer.',
  })
  status: string;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: 'mx_missing',
    description: 'The code of what was found, as in `details` of a verification; null before the first look.',
  })
  code: string | null;
  @ApiProperty({
    type: [String],
    description: 'What was seen there: the first four values, each cut at 512 characters.',
  })
  last_seen: readonly string[];
  @ApiProperty({
    ...time,
    nullable: true,
    description: 'When that was seen. Later looks that found nothing new do not change it: see `last_checked_at`.',
  })
  checked_at: string | null;
}

export class DomainSchema implements PresentedDomain {
  @ApiProperty({ example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
  @ApiProperty({ example: 'mail.acme.com', description: 'Canonical: lower case, A-labels, no trailing dot.' })
  domain: string;
  @ApiPropertyOptional({ example: 'münchen.example.de', description: 'Only of an internationalised name.' })
  domain_unicode?: string;
  @ApiProperty({
    enum: verificationStatuses,
    description: '`pending` also while the domain is being deleted: it can take no mailbox any more.',
  })
  verification_status: string;
  @ApiProperty({ enum: sesDkimStatuses, description: 'What Amazon SES says of the three CNAMEs.' })
  ses_dkim_status: string;
  @ApiProperty({ ...time, nullable: true, description: 'Time of the last success.' })
  verified_at: string | null;
  @ApiProperty(time)
  created_at: string;
  @ApiProperty({
    ...dnsRecordsSchema(),
    selfRequired: true,
    description: 'The records to place.',
  } as ApiPropertyOptions)
  dns_records: DnsRecords;
  @ApiProperty({ enum: domainModes, description: '`send_only`: no MX is asked for, and it has no mailboxes.' })
  mode: string;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    description: 'Active mailboxes on it; suspended ones do not count. It does not change the ETag.',
  })
  mailbox_count: number;
  @ApiProperty({
    type: 'string',
    enum: [...sesMailFromStatuses, null],
    nullable: true,
    description: 'What Amazon SES says of the records of the MAIL FROM domain; null until it was asked.',
  })
  ses_mail_from_status: string | null;
  @ApiProperty({
    type: 'string',
    enum: [...sesDkimStatuses, null],
    nullable: true,
    description: 'What Amazon SES says of the identity as a whole.',
  })
  ses_identity_verification_status: string | null;
  @ApiProperty({ type: 'boolean', nullable: true, description: 'Whether Amazon SES sends its mail.' })
  ses_verified_for_sending: boolean | null;
  @ApiProperty({
    type: 'boolean',
    nullable: true,
    description: 'Whether Amazon SES signs its mail by DKIM; null until it was asked.',
  })
  ses_dkim_signing_enabled: boolean | null;
  @ApiProperty({
    ...time,
    nullable: true,
    description:
      'When Amazon SES said so; null when it gave no answer to the last look. Later looks that found nothing new do not change it.',
  })
  ses_identity_checked_at: string | null;
  @ApiProperty({
    type: [RecordSchema],
    description: 'The same records one by one, each with what the last look has seen of it. Reading asks nobody.',
  })
  records: RecordSchema[];
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

export class WarnedDomainSchema extends DomainSchema {
  @ApiPropertyOptional({
    type: [PreflightFindingSchema],
    description: 'What ends once the records are placed, such as mail that somebody else receives now.',
  })
  warnings?: PreflightFindingSchema[];
}

export class WarnedDomainEnvelope extends Envelope {
  @ApiProperty({ type: WarnedDomainSchema })
  data: WarnedDomainSchema;
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

export class RecordToRemoveSchema implements RecordToRemove {
  @ApiProperty({ enum: ['MX', 'TXT', 'CNAME'] })
  type: string;
  @ApiProperty({ example: 'mail.acme.com' })
  name: string;
  @ApiProperty({ example: '10 mail.sendmux.ai' })
  value: string;
}

export class DeletionSchema implements PresentedDeletion {
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
