import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsOptional, IsString } from 'class-validator';
import { actorOf, schemaVersions, sentenceOf, type Before, type DomainEvent } from '@app/mail-domain';
import { eventId, type RecordedEvent } from '@app/event-store';
import { timeForms } from '@app/runtime';
import { extensible } from '../http/openapi';
import { PageEnvelope } from '../http/paging';

export class AsOfQuery {
  @ApiPropertyOptional({
    example: '2026-03-01T10:00:00Z',
    description: `Answers with the state at the end of that millisecond, also of a domain that has been deleted since: ${timeForms}. Not later than now. \`meta.as_of\` says which time was understood.`,
  })
  @IsOptional()
  @IsString({ message: '"as_of" must be one time' })
  as_of?: string;
}

class ActorSchema {
  @ApiProperty({
    enum: ['key', 'process'],
    description: '`key`: an API key or a setup link of your team; or a process of Sendmux.',
  })
  type: string;
  @ApiProperty({
    example: 'key_clxxxxxxxxxxxxxxxxxxxxxxxxx',
    description: 'The id of the key or the setup link, or the name of the app.',
  })
  id: string;
  @ApiProperty({ example: 'The API key key_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  words: string;
}

export class HistoryEntrySchema {
  @ApiProperty({ example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx/1', description: '`<id of the domain>/<version>`' })
  id: string;
  @ApiProperty({ type: 'integer', example: 1, description: 'Of the domain after it: from 1, without gaps.' })
  version: number;
  @ApiProperty({
    type: 'string',
    format: 'date-time',
    example: '2026-04-15T10:00:00.000Z',
    description:
      'When it was decided, in milliseconds, as `as_of` takes it. Never before that of the entry above; what was decided together has one time.',
  })
  time: string;
  @ApiProperty({
    ...extensible(Object.keys(schemaVersions)),
    description: 'New ones may come at any time.',
  })
  type: string;
  @ApiProperty({
    example: 'mail.acme.com was added, and its name reserved.',
    description: 'What happened, for people; not to be parsed.',
  })
  sentence: string;
  @ApiProperty({ type: ActorSchema, description: 'Who did it.' })
  actor: ActorSchema;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx',
    description: 'The request that did it; null of what a process of Sendmux did.',
  })
  request_id: string | null;
  @ApiProperty({
    example: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx',
    description: 'The same of everything that one request, or one look of the cycle, has set going.',
  })
  correlation_id: string;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: null,
    description: 'The `id` of the entry that led to this one; null where a request or the cycle did.',
  })
  causation_id: string | null;
  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    example: { name: 'mail.acme.com', team: 'team_abc123', deadline: '2026-04-15T10:00:30.000Z' },
    description: 'Of the event, as its type has it: docs/events/schemas.',
  })
  data: object;
}

export class HistoryEnvelope extends PageEnvelope {
  @ApiProperty({ type: [HistoryEntrySchema], description: 'The oldest first.' })
  data: HistoryEntrySchema[];
}

export function presentEntry(recorded: RecordedEvent, event: DomainEvent, before: Before): HistoryEntrySchema {
  const { actor, requestId, correlationId, causationId } = recorded.metadata;
  return {
    id: eventId(recorded),
    version: recorded.version,
    time: event.at,
    type: event.type,
    sentence: sentenceOf(event, before),
    actor: actorOf(actor),
    request_id: requestId ?? null,
    correlation_id: correlationId,
    causation_id: causationId ?? null,
    data: event.data,
  };
}
