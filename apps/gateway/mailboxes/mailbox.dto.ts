import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { applyDecorators } from '@nestjs/common';
import { Type as TransformTo } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsIn,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { sendmuxSes } from '@app/mailbox';
import { presentMailbox, type PresentedMailbox } from '@app/presentation';
import type { MailboxView } from '@app/read-model';
import { domainIdForm, Envelope, time } from '../domains/domain.dto';
import { ApiError } from '../http/api-error';
import { MayBeAbsent } from '../http/may-be-absent';
import { PageEnvelope, PageQuery } from '../http/paging';
import { availabilityReasons } from './availability.service';

/** Without control characters and line separators, which cannot stand in a header field. */
// eslint-disable-next-line no-control-regex -- they are what is refused
const displayNameForm = /^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]{1,254}$/u;
const displayNameFault = { message: '"display_name" must have 1 to 254 characters on one line, or be null' };

/** Documents the field, and checks it where it is neither absent nor null. */
const DisplayName = (): PropertyDecorator =>
  applyDecorators(
    ApiPropertyOptional({
      type: 'string',
      nullable: true,
      example: 'Ada Lovelace',
      minLength: 1,
      maxLength: 254,
      pattern: displayNameForm.source,
      description: 'What stands beside the address in the From field of its mail; null for nothing.',
    }),
    Matches(displayNameForm, displayNameFault),
    IsString(displayNameFault),
    IsOptional(),
  );

const quotaFault = { message: '"quota_bytes" must be null or absent: storage is not limited here' };

/** Documents the field, and refuses what limits storage. */
const QuotaBytes = (): PropertyDecorator =>
  applyDecorators(
    ApiPropertyOptional({
      type: 'integer',
      nullable: true,
      enum: [null],
      example: null,
      description: 'Null or absent: storage is not limited here.',
    }),
    IsIn([null], quotaFault),
    MayBeAbsent(),
  );

class SendScope {
  @ApiProperty({ enum: ['all', 'providers'], description: '`all` leaves it to the domain.' })
  @IsIn(['all', 'providers'], { message: '"send_scope.type" must be all or providers: there are no groups here' })
  type: string;

  @ApiPropertyOptional({ type: [String], example: [sendmuxSes], minItems: 1, maxItems: 1 })
  @IsOptional()
  @IsString({ each: true, message: '"send_scope.provider_public_ids" must name one provider' })
  @ArrayMaxSize(1, { message: '"send_scope.provider_public_ids" must name one provider' })
  @IsArray({ message: '"send_scope.provider_public_ids" must be a list' })
  provider_public_ids?: string[];
}

/** Documents the field, and checks it where it is neither absent nor null. */
const InSendScope = (): PropertyDecorator =>
  applyDecorators(
    ApiPropertyOptional({
      type: SendScope,
      nullable: true,
      description: 'The same as `outbound_provider`, by the name and in the form of the mail API.',
    }),
    ValidateNested(),
    TransformTo(() => SendScope),
    IsObject({ message: '"send_scope" must be an object, or null' }),
    IsOptional(),
  );

const addressForm = { minLength: 1, maxLength: 1000 } as const;

export class CreateMailboxRequest {
  @ApiPropertyOptional({
    example: 'ada@mail.acme.com',
    description:
      'On a verified domain of your team, any address; on `myagent.mx`, one whose part before the @ ends with your team’s suffix. Case is yours to choose. Either this or `email` is needed.',
    ...addressForm,
  })
  @Matches(/^[^]{1,1000}$/, { message: '"address" must have 1 to 1000 characters' })
  @IsString({ message: '"address" must be a string, such as "ada@mail.acme.com"' })
  @ValidateIf(({ address, email }: CreateMailboxRequest) => address !== undefined || email === undefined)
  address?: string;

  @ApiPropertyOptional({ description: 'The same as `address`, by the name of the mail API.', ...addressForm })
  @Matches(/^[^]{1,1000}$/, { message: '"email" must have 1 to 1000 characters' })
  @IsString({ message: '"email" must be a string, such as "ada@mail.acme.com"' })
  @MayBeAbsent()
  email?: string;

  @DisplayName()
  display_name?: string | null;

  @QuotaBytes()
  quota_bytes?: null;

  @InSendScope()
  send_scope?: SendScope | null;

  @ApiPropertyOptional({
    type: 'string',
    nullable: true,
    example: sendmuxSes,
    description: 'What it sends through; absent or null leaves it to its domain.',
  })
  @IsOptional()
  @IsString({ message: '"outbound_provider" must be the name of a provider, or null' })
  outbound_provider?: string | null;
}

export class UpdateMailboxRequest {
  @DisplayName()
  display_name?: string | null;

  @QuotaBytes()
  quota_bytes?: null;

  @InSendScope()
  send_scope?: SendScope | null;
}

export class AvailabilityQuery {
  @ApiProperty({ example: 'ada@mail.acme.com', ...addressForm })
  @Matches(/^[^]{1,1000}$/, { message: '"email" must have 1 to 1000 characters' })
  @IsString({ message: '"email" must be one address' })
  email: string;
}

export const mailboxIdForm = /^mbx_cl[0-9a-z]{25}$/;

export class ListMailboxesQuery extends PageQuery {
  @ApiPropertyOptional({
    description: 'Only those of this domain.',
    example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
    pattern: domainIdForm.source,
  })
  @IsOptional()
  @Matches(domainIdForm, { message: '"domain_id" must be the id of a domain' })
  @IsString({ message: '"domain_id" must be one string' })
  domain_id?: string;

  @ApiPropertyOptional({ enum: ['true', 'false'], default: 'false', description: 'Deleted ones too.' })
  @IsOptional()
  @IsIn(['true', 'false'], { message: '"include_deleted" must be true or false' })
  include_deleted?: 'true' | 'false';
}

export class MailboxSchema implements PresentedMailbox {
  @ApiProperty({ example: 'mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
  @ApiProperty({ example: 'ada@mail.acme.com', description: 'Canonical: case folded, NFC, the domain in A-labels.' })
  address: string;
  @ApiProperty({ example: 'ada@mail.acme.com', description: 'The same as `address`.' })
  email: string;
  @ApiProperty({ type: 'string', nullable: true, example: null, description: 'In the From field of its mail.' })
  display_name: string | null;
  @ApiProperty({ type: 'integer', nullable: true, example: null, description: 'Null: storage is not limited here.' })
  quota_bytes: number | null;
  @ApiProperty({
    type: SendScope,
    nullable: true,
    example: null,
    description: 'What it has chosen to send through, in the form of the mail API; null leaves it to its domain.',
  })
  send_scope: SendScope | null;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx',
    description: 'The domain that it lives on; null on `myagent.mx`.',
  })
  domain_id: string | null;
  @ApiProperty({ enum: ['active', 'suspended', 'deleted'] })
  status: string;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: null,
    description: 'What it has chosen to send through; null leaves it to its domain.',
  })
  outbound_provider: string | null;
  @ApiProperty({
    example: sendmuxSes,
    description: 'What it sends through: its own choice, else that of its domain, else Sendmux SES.',
  })
  effective_outbound_provider: string;
  @ApiProperty(time)
  created_at: string;
}

export class MailboxEnvelope extends Envelope {
  @ApiProperty({ type: MailboxSchema })
  data: MailboxSchema;
}

export class MailboxPageEnvelope extends PageEnvelope {
  @ApiProperty({ type: [MailboxSchema], description: 'The newest first.' })
  data: MailboxSchema[];
}

export class NewMailboxSchema extends MailboxSchema {
  @ApiProperty({ type: MailboxSchema, description: 'The same mailbox, in the form of the mail API.' })
  mailbox: MailboxSchema;
  @ApiProperty({
    type: 'object',
    nullable: true,
    additionalProperties: true,
    example: null,
    description: 'Always null.',
  })
  credential: null;
  @ApiProperty({ type: 'string', nullable: true, description: 'Why there is no credential.' })
  warning: string | null;
}

export class NewMailboxEnvelope extends Envelope {
  @ApiProperty({ type: NewMailboxSchema })
  data: NewMailboxSchema;
}

class AvailabilitySchema {
  @ApiProperty({ example: 'ada@mail.acme.com', description: 'Canonical where it is an address.' })
  email: string;
  @ApiProperty()
  available: boolean;
  @ApiProperty({
    enum: availabilityReasons,
    description:
      '`domain_not_available`: your team has no verified domain of that name. `reserved`: on `myagent.mx` the part before the @ ends with your team’s suffix.',
  })
  reason: string;
}

export class AvailabilityEnvelope extends Envelope {
  @ApiProperty({ type: AvailabilitySchema })
  data: AvailabilitySchema;
}

class MailboxDeletionSchema {
  @ApiProperty({ enum: [true] })
  deleted: boolean;
  @ApiProperty({ example: 'mbx_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  id: string;
}

export class MailboxDeletionEnvelope extends Envelope {
  @ApiProperty({ type: MailboxDeletionSchema })
  data: MailboxDeletionSchema;
}

export const presentNewMailbox = (view: MailboxView): NewMailboxSchema => ({
  ...presentMailbox(view),
  mailbox: presentMailbox(view),
  credential: null,
  warning: 'A mailbox has no credential of its own here: its mail is read and sent with those of the mail server.',
});

/**
 * Gives the provider of a request; undefined where it says nothing.
 *
 * @throws {ApiError} `invalid_parameter` for providers that are not one.
 */
export function providerOf({
  outbound_provider: provider,
  send_scope: scope,
}: ProviderFields): string | null | undefined {
  if (scope === undefined) return provider;
  if (scope === null || scope.type === 'all') return null;
  const [named] = scope.provider_public_ids ?? [];
  if (named !== undefined) return named;
  throw new ApiError('invalid_parameter', '"send_scope" must name a provider in "provider_public_ids".', {
    param: 'send_scope',
  });
}

/** Gives the field that `providerOf` takes the provider from. */
export const providerFieldOf = ({ send_scope: scope }: ProviderFields) =>
  scope === undefined ? 'outbound_provider' : 'send_scope';

type ProviderFields = Pick<CreateMailboxRequest, 'outbound_provider' | 'send_scope'>;
