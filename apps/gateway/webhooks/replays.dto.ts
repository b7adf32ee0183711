import { applyDecorators } from '@nestjs/common';
import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { ArrayMaxSize, ArrayMinSize, ArrayUnique, IsArray, IsIn, IsString, Matches } from 'class-validator';
import { shown } from '@app/presentation';
import { timeForms } from '@app/runtime';
import { webhookTypes, type WebhookReplay, type WebhookType } from '@app/webhooks';
import { Envelope, time } from '../domains/domain.dto';
import { MayBeAbsent } from '../http/may-be-absent';
import { extensible } from '../http/openapi';
import { PageEnvelope } from '../http/paging';
import { Domains } from './webhooks.dto';

export const replayIdForm = /^rpl_cl[0-9a-z]{25}$/;
/** Documents the path parameter `replay_id`. */
export const replayIdParam = { name: 'replay_id', example: 'rpl_clxxxxxxxxxxxxxxxxxxxxxxxxx' } as const;

const typesFault = { message: `"types" must be some of ${webhookTypes.join(', ')}` };
const timeFault = (field: string) => ({ message: `"${field}" must be ${timeForms}` });

/** Checks a time as far as its length goes. */
const Time = (field: string): PropertyDecorator =>
  applyDecorators(Matches(/^[^]{1,100}$/, timeFault(field)), IsString(timeFault(field)));

export class ReplayRequest {
  @ApiProperty({
    example: '2026-03-01T10:00:00Z',
    minLength: 1,
    maxLength: 100,
    description: `The first time of which events are sent once more: ${timeForms}.`,
  })
  @Time('from')
  from: string;

  @ApiPropertyOptional({
    example: '2026-03-02T10:00:00Z',
    minLength: 1,
    maxLength: 100,
    description: 'The time at which they end, which is not in it, in the same forms; now where it is absent.',
  })
  @MayBeAbsent()
  @Time('to')
  to?: string;

  @ApiPropertyOptional({
    type: 'array',
    items: { type: 'string', enum: [...webhookTypes] },
    minItems: 1,
    maxItems: webhookTypes.length,
    uniqueItems: true,
    example: ['domain.failed'],
    description: 'Those that the webhook gets, where it is absent.',
  })
  @MayBeAbsent()
  @ArrayUnique(typesFault)
  @IsIn(webhookTypes, { each: true, ...typesFault })
  @ArrayMaxSize(webhookTypes.length, typesFault)
  @ArrayMinSize(1, typesFault)
  @IsArray(typesFault)
  types?: WebhookType[];

  @Domains('Ids of domains of your team, deleted ones too. Those of the webhook, where it is absent or null.')
  domains?: string[] | null;
}

export class ReplaySchema {
  @ApiProperty({ example: replayIdParam.example })
  id: string;
  @ApiProperty({ ...time, description: 'Events of this time and later.' })
  from: string;
  @ApiProperty({ ...time, description: 'Events before this time.' })
  to: string;
  @ApiProperty({
    type: 'array',
    items: extensible(['*', ...webhookTypes]) as { type: 'string' },
    example: ['domain.failed'],
    description: '`["*"]` for all.',
  })
  types: readonly string[];
  @ApiProperty({ type: [String], nullable: true, example: null, description: 'Ids of domains; null for all.' })
  domains: readonly string[] | null;
  @ApiProperty({
    ...extensible(['running', 'stopped', 'completed']),
    example: 'running',
    description: '`completed`: all that it has put on was delivered, or has failed.',
  })
  status: string;
  @ApiProperty({ minimum: 0, maximum: 1, example: 0.25, description: 'Share of its part of the log that was put on.' })
  progress: number;
  @ApiProperty({ type: 'integer', example: 120, description: 'Messages that were put on.' })
  queued: number;
  @ApiProperty({ type: 'integer', example: 110, description: 'Those of them that were delivered.' })
  delivered: number;
  @ApiProperty({ type: 'integer', example: 0, description: 'Those of them that have failed.' })
  failed: number;
  @ApiProperty(time)
  created_at: string;
  @ApiProperty({ ...time, nullable: true, example: null, description: 'When it was completed or stopped.' })
  ended_at: string | null;
}

export class ReplayEnvelope extends Envelope {
  @ApiProperty({ type: ReplaySchema })
  data: ReplaySchema;
}

export class ReplayPageEnvelope extends PageEnvelope {
  @ApiProperty({ type: [ReplaySchema], description: 'The newest first.' })
  data: ReplaySchema[];
}

export const presentReplay = (replay: WebhookReplay): ReplaySchema => ({
  id: replay.id,
  from: shown(replay.from),
  to: shown(replay.to),
  types: replay.types ?? ['*'],
  domains: replay.domains,
  status: replay.status,
  progress: progressOf(replay),
  queued: replay.queued,
  delivered: replay.delivered,
  failed: replay.failed,
  created_at: shown(replay.createdAt),
  ended_at: replay.endedAt && shown(replay.endedAt),
});

/** Gives a number from 0 to 1, with two places; 1 where there is nothing to put on. */
function progressOf({ span: { after, upTo }, position }: WebhookReplay): number {
  const share = upTo <= after ? 1 : (position - after) / (upTo - after);
  return Math.floor(Math.min(1, share) * 100) / 100;
}
