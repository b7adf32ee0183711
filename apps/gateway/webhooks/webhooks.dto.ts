import { applyDecorators } from '@nestjs/common';
import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type as TransformTo } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  Max,
  Min,
  ValidateNested,
} from 'class-validator';
import { shown } from '@app/presentation';
import { testType, webhookTypes, type Webhook, type WebhookChoices } from '@app/webhooks';
import { domainIdForm, Envelope, time } from '../domains/domain.dto';
import { ApiError } from '../http/api-error';
import { MayBeAbsent } from '../http/may-be-absent';
import { extensible } from '../http/openapi';
import { PageEnvelope } from '../http/paging';

export const webhooksPath = '/api/v1/webhooks';

export const webhookIdForm = /^whk_cl[0-9a-z]{25}$/;
/** Documents the path parameter `id`. */
export const webhookIdParam = { name: 'id', example: 'whk_clxxxxxxxxxxxxxxxxxxxxxxxxx' } as const;

const everything = '*';
/** What `event_types` of a request can have. Public clients list the type of tests, which are sent in any case. */
const typesToChoose = [everything, ...webhookTypes, testType];
const typesFault = { message: `"event_types" must be "*" alone, or some of ${[...webhookTypes, testType].join(', ')}` };
const mostDomains = 100;
const domainsFault = { message: `"domains" must be 1 to ${mostDomains} ids of domains, or null` };
const mostTypes = typesToChoose.length;

const dayInSeconds = 86_400;
const longestOverlapSeconds = 7 * dayInSeconds;
const overlapFault = { message: `"overlap_seconds" must be a whole number from 0 to ${longestOverlapSeconds}` };

/** Documents the field, and checks it where it is sent. */
const Url = (property: typeof ApiProperty): PropertyDecorator =>
  applyDecorators(
    property({
      example: 'https://hooks.acme.com/sendmux',
      minLength: 1,
      maxLength: 2048,
      description:
        'An https:// URL of a host on the public Internet, on port 443 or above 1023, without a user, a password or a fragment. It is answered from where it points, since no redirect is followed.',
    }),
    Matches(/^[^]{1,2048}$/, { message: '"url" must have 1 to 2048 characters' }),
    IsString({ message: '"url" must be a string, such as "https://hooks.acme.com/sendmux"' }),
  );

const EventTypes = (): PropertyDecorator =>
  applyDecorators(
    ApiPropertyOptional({
      type: 'array',
      items: { type: 'string', enum: typesToChoose },
      minItems: 1,
      maxItems: mostTypes,
      uniqueItems: true,
      example: ['domain.verified', 'domain.failed'],
      description:
        '`["*"]` for all, those included that are added later; so is it where the field is absent from a creation. `sendmux.test` may stand among them and changes nothing: a test is sent in any case.',
    }),
    ArrayUnique(typesFault),
    IsIn(typesToChoose, { each: true, ...typesFault }),
    ArrayMaxSize(mostTypes, typesFault),
    ArrayMinSize(1, typesFault),
    IsArray(typesFault),
    MayBeAbsent(),
  );

/** Documents a list of domains, and checks it where it is neither absent nor null. */
export const Domains = (description: string): PropertyDecorator =>
  applyDecorators(
    ApiPropertyOptional({
      type: 'array',
      items: { type: 'string', pattern: domainIdForm.source },
      nullable: true,
      minItems: 1,
      maxItems: mostDomains,
      uniqueItems: true,
      example: null,
      description,
    }),
    ArrayUnique(domainsFault),
    Matches(domainIdForm, { each: true, ...domainsFault }),
    IsString({ each: true, ...domainsFault }),
    ArrayMaxSize(mostDomains, domainsFault),
    ArrayMinSize(1, domainsFault),
    IsArray(domainsFault),
    IsOptional(),
  );

/** Without NUL, which PostgreSQL text cannot contain. */
const descriptionForm = /^[^\0]{1,255}$/u;

/** Documents the field, and checks it where it is neither absent nor null. */
const Description = (field: string, description: string): PropertyDecorator => {
  const fault = { message: `"${field}" must have 1 to 255 characters, or be null` };
  return applyDecorators(
    ApiPropertyOptional({
      type: 'string',
      nullable: true,
      minLength: 1,
      maxLength: 255,
      pattern: descriptionForm.source,
      example: 'CRM, production',
      description,
    }),
    Matches(descriptionForm, fault),
    IsString(fault),
    IsOptional(),
  );
};

class NoFilters {
  @ApiProperty({ type: [String], maxItems: 0, example: [], description: 'Empty: there are none by mailbox here.' })
  @ArrayMaxSize(0, { message: '"filters.mailbox_ids" must be empty: choose "domains" instead' })
  @IsArray({ message: '"filters.mailbox_ids" must be an empty list' })
  mailbox_ids: string[];
}

const Filters = (): PropertyDecorator =>
  applyDecorators(
    ApiPropertyOptional({ type: NoFilters, description: 'As the mail API has it: `domains` is what chooses here.' }),
    ValidateNested(),
    TransformTo(() => NoFilters),
    IsObject({ message: '"filters" must be an object' }),
    MayBeAbsent(),
  );

const Enabled = (description: string): PropertyDecorator =>
  applyDecorators(
    ApiPropertyOptional({ example: true, description }),
    IsBoolean({ message: '"enabled" must be true or false' }),
    MayBeAbsent(),
  );

const aboutDomains = 'Only what is about these domains of your team, and mailboxes on them; null for all.';
const nameIs = 'The same as `description`, by the name of the mail API.';

export class CreateWebhookRequest {
  @Url(ApiProperty)
  url: string;
  @EventTypes()
  event_types?: string[];
  @Domains(aboutDomains)
  domains?: string[] | null;
  @Description('description', 'What it is for, as you want to remember it.')
  description?: string | null;
  @Description('name', nameIs)
  name?: string | null;
  @Filters()
  filters?: NoFilters;
  @Enabled('True where it is absent.')
  enabled?: boolean;
}

export class UpdateWebhookRequest {
  @MayBeAbsent()
  @Url(ApiPropertyOptional)
  url?: string;
  @EventTypes()
  event_types?: string[];
  @Domains(aboutDomains)
  domains?: string[] | null;
  @Description('description', 'What it is for; null for nothing.')
  description?: string | null;
  @Description('name', nameIs)
  name?: string | null;
  @Filters()
  filters?: NoFilters;
  @Enabled(
    'Enabled again, it gets what happens from then on, and what was waiting when it was disabled; a replay brings the rest. It is no longer failing.',
  )
  enabled?: boolean;
}

export class RotateSecretRequest {
  @ApiPropertyOptional({
    type: 'integer',
    minimum: 0,
    maximum: longestOverlapSeconds,
    default: dayInSeconds,
    example: 3600,
    description: 'Seconds for which the old secret signs beside the new one; 0 ends it at once.',
  })
  @MayBeAbsent()
  @IsInt(overlapFault)
  @Min(0, overlapFault)
  @Max(longestOverlapSeconds, overlapFault)
  overlap_seconds = dayInSeconds;
}

export class WebhookSchema {
  @ApiProperty({ example: webhookIdParam.example })
  id: string;
  @ApiProperty({ format: 'uri', example: 'https://hooks.acme.com/sendmux', description: 'In its normal form.' })
  url: string;
  @ApiProperty({ type: 'string', nullable: true, example: 'CRM, production' })
  description: string | null;
  @ApiProperty({ type: 'string', nullable: true, example: 'CRM, production', description: nameIs })
  name: string | null;
  @ApiProperty({
    type: 'array',
    items: extensible(typesToChoose) as { type: 'string' },
    example: ['domain.verified', 'domain.failed'],
    description: '`["*"]` for all.',
  })
  event_types: readonly string[];
  @ApiProperty({
    type: [String],
    nullable: true,
    example: null,
    description: 'Ids of domains; null for all of your team.',
  })
  domains: readonly string[] | null;
  @ApiProperty({ type: NoFilters, description: 'As the mail API has it.' })
  filters: NoFilters;
  @ApiProperty({ description: 'Whether messages are sent to it.' })
  enabled: boolean;
  @ApiProperty({ description: 'Whether nothing but failures has come of what was sent to it of late.', example: false })
  failing: boolean;
  @ApiProperty({
    ...extensible(['gone', 'failing', null]),
    nullable: true,
    example: null,
    description:
      'Why we have disabled it. `gone`: it answered 410. `failing`: nothing but failures for five days. Null otherwise.',
  })
  disabled_reason: string | null;
  @ApiProperty({
    ...time,
    nullable: true,
    example: null,
    description: 'During a rotation: until when the old secret signs as well.',
  })
  old_secret_expires_at: string | null;
  @ApiProperty(time)
  created_at: string;
  @ApiProperty({ ...time, description: 'When it was last changed.' })
  updated_at: string;
}

export class NewWebhookSchema extends WebhookSchema {
  @ApiProperty({
    example: 'whsec_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=',
    description:
      'Signs its messages, as Standard Webhooks has it. It is in this answer only; a repeated request with the same Idempotency-Key gets it again.',
  })
  secret: string;
}

export class WebhookEnvelope extends Envelope {
  @ApiProperty({ type: WebhookSchema })
  data: WebhookSchema;
}

export class NewWebhookEnvelope extends Envelope {
  @ApiProperty({ type: NewWebhookSchema })
  data: NewWebhookSchema;
}

export class WebhookPageEnvelope extends PageEnvelope {
  @ApiProperty({ type: [WebhookSchema], description: 'The newest first.' })
  data: WebhookSchema[];
}

class DeletedWebhookSchema {
  @ApiProperty({ enum: [true] })
  deleted: boolean;
  @ApiProperty({ example: webhookIdParam.example })
  id: string;
}

export class DeletedWebhookEnvelope extends Envelope {
  @ApiProperty({ type: DeletedWebhookSchema })
  data: DeletedWebhookSchema;
}

class TestedWebhookSchema {
  @ApiProperty({ example: 'msg_clxxxxxxxxxxxxxxxxxxxxxxxxx', description: 'The `webhook-id` of the test.' })
  event_id: string;
}

export class TestedWebhookEnvelope extends Envelope {
  @ApiProperty({ type: TestedWebhookSchema })
  data: TestedWebhookSchema;
}

export const presentWebhook = (webhook: Webhook): WebhookSchema => ({
  id: webhook.id,
  url: webhook.url,
  description: webhook.description,
  name: webhook.description,
  event_types: webhook.eventTypes ?? [everything],
  domains: webhook.domains,
  filters: { mailbox_ids: [] },
  enabled: webhook.enabled,
  failing: webhook.failingSince !== null,
  disabled_reason: webhook.disabledBecause,
  old_secret_expires_at: webhook.oldSecretUntil && shown(webhook.oldSecretUntil),
  created_at: shown(webhook.createdAt),
  updated_at: shown(webhook.updatedAt),
});

/**
 * Gives what a request chooses, but for its URL, which is checked elsewhere. What is absent is undefined.
 *
 * @throws {ApiError} `invalid_parameter` for types beside `*`, and for a description under two names.
 */
export function choicesOf(body: UpdateWebhookRequest): Partial<Omit<WebhookChoices, 'url'>> {
  const { event_types: types, domains, description, name, enabled } = body;
  if (types && types.length > 1 && types.includes(everything))
    throw new ApiError('invalid_parameter', `${typesFault.message}.`, { param: 'event_types' });
  if (description !== undefined && name !== undefined && description !== name)
    throw new ApiError('invalid_parameter', '"description" and "name" are the same: send one of them.', {
      param: 'name',
    });
  return {
    description: description === undefined ? name : description,
    eventTypes: types?.[0] === everything ? null : types,
    domains,
    enabled,
  };
}
