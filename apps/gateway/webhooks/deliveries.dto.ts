import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsOptional } from 'class-validator';
import { shown } from '@app/presentation';
import { keptMs, lanes, testType, triesLimit, webhookTypes, type Delivery, type DeliveryStatus } from '@app/webhooks';
import { Envelope, time } from '../domains/domain.dto';
import { extensible } from '../http/openapi';
import { PageEnvelope, PageQuery } from '../http/paging';

export const deliveryIdForm = /^wdlv_cl[0-9a-z]{25}$/;
/** Documents the path parameter `delivery_id`. */
export const deliveryIdParam = { name: 'delivery_id', example: 'wdlv_clxxxxxxxxxxxxxxxxxxxxxxxxx' } as const;

/** The results, as public clients have them, of what is kept of a delivery. */
const resultOf: Readonly<Record<DeliveryStatus, string>> = {
  waiting: 'retrying',
  delivered: 'success',
  failed: 'failed',
};
const results = Object.values(resultOf);
const eventTypes = [...webhookTypes, testType];

export class DeliveryPageQuery extends PageQuery {
  @ApiPropertyOptional({ enum: eventTypes, description: 'Only those of this type.' })
  @IsOptional()
  @IsIn(eventTypes, { message: `"event_type" must be one of ${eventTypes.join(', ')}` })
  event_type?: string;

  @ApiPropertyOptional({ enum: results, description: 'Only those with this result.' })
  @IsOptional()
  @IsIn(results, { message: `"result" must be one of ${results.join(', ')}` })
  result?: string;
}

export class DeliverySchema {
  @ApiProperty({ example: deliveryIdParam.example })
  id: string;
  @ApiProperty({
    example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx/12',
    description: 'The id of the message, which its `webhook-id` and its body have: that of the event.',
  })
  event_id: string;
  @ApiProperty({ ...extensible(eventTypes), example: 'domain.verified' })
  event_type: string;
  @ApiProperty({ example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx', description: 'The id of what it is about.' })
  subject: string;
  @ApiProperty({
    ...extensible(results),
    example: 'success',
    description:
      '`success`: answered with 2xx. `retrying`: waits for its next try, or its first. `failed`: the last try has failed; it can be delivered again.',
  })
  result: string;
  @ApiProperty({
    ...extensible(lanes),
    example: 'live',
    description:
      'What it waits behind. `live`: earlier messages about the same thing. `replay`: earlier ones of the same replay. `requested`: tests, and what was to be delivered again.',
  })
  lane: string;
  @ApiProperty({ type: 'string', nullable: true, example: null, description: 'The replay that it belongs to.' })
  replay_id: string | null;
  @ApiProperty({ type: 'integer', example: 1, description: 'Number of the last try; 0 before the first.' })
  delivery_attempt: number;
  @ApiProperty({ type: 'integer', example: triesLimit, description: 'The most tries, within 24 hours.' })
  max_attempts: number;
  @ApiProperty({ ...time, nullable: true, description: 'When the last try was made; null before the first.' })
  attempted_at: string | null;
  @ApiProperty({
    ...time,
    nullable: true,
    example: null,
    description: 'When it is tried next; null where it is not, or where an earlier message comes first.',
  })
  next_retry_at: string | null;
  @ApiProperty({ type: 'integer', nullable: true, example: 200, description: 'Of the last answer; null without one.' })
  response_status: number | null;
  @ApiProperty({ type: 'integer', nullable: true, example: 184, description: 'Milliseconds that the last try took.' })
  response_ms: number | null;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: 'ok',
    description: 'The first 1,024 octets of the last answer, read as UTF-8.',
  })
  response_body: string | null;
  @ApiProperty({ type: 'string', nullable: true, example: null, description: 'Why the last try failed, for people.' })
  error_message: string | null;
  @ApiProperty({ description: 'Whether its payload can be read.' })
  payload_available: boolean;
  @ApiProperty({ ...time, description: 'Until when it, and its payload, can be read.' })
  payload_expires_at: string;
  @ApiProperty({ ...time, description: 'When it was put on, before its first try.' })
  created_at: string;
}

export class DeliveryEnvelope extends Envelope {
  @ApiProperty({ type: DeliverySchema })
  data: DeliverySchema;
}

export class DeliveryPageEnvelope extends PageEnvelope {
  @ApiProperty({ type: [DeliverySchema], description: 'The newest first, for 30 days.' })
  data: DeliverySchema[];
}

class PayloadSchema {
  @ApiProperty({ example: deliveryIdParam.example })
  id: string;
  @ApiProperty({ example: 'mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx/12' })
  event_id: string;
  @ApiProperty({ ...extensible(eventTypes), example: 'domain.verified' })
  event_type: string;
  @ApiProperty({ type: 'integer', example: 1, description: 'Number of the last try; 0 before the first.' })
  delivery_attempt: number;
  @ApiProperty(time)
  created_at: string;
  @ApiProperty({ ...time, description: 'Until when it can be read.' })
  expires_at: string;
  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    description: 'The body of each try, made anew from the log; `webhooks` documents it by its type.',
  })
  payload: object;
}

export class PayloadEnvelope extends Envelope {
  @ApiProperty({ type: PayloadSchema })
  data: PayloadSchema;
}

const shownOrNull = (date: Date | null): string | null => date && shown(date);
const expiryOf = ({ createdAt }: Delivery): string => shown(new Date(createdAt.getTime() + keptMs));

export const presentDelivery = (delivery: Delivery): DeliverySchema => ({
  id: delivery.id,
  event_id: delivery.message,
  event_type: delivery.type,
  subject: delivery.subject,
  result: resultOf[delivery.status],
  lane: delivery.lane,
  replay_id: delivery.replay,
  delivery_attempt: delivery.tries,
  max_attempts: triesLimit,
  attempted_at: shownOrNull(delivery.triedAt),
  next_retry_at: shownOrNull(delivery.nextTryAt),
  response_status: delivery.responseStatus,
  response_ms: delivery.durationMs,
  response_body: delivery.response && delivery.response.toString('utf8'),
  error_message: delivery.error,
  payload_available: true,
  payload_expires_at: expiryOf(delivery),
  created_at: shown(delivery.createdAt),
});

export const presentPayload = (delivery: Delivery, body: string): PayloadSchema => ({
  id: delivery.id,
  event_id: delivery.message,
  event_type: delivery.type,
  delivery_attempt: delivery.tries,
  created_at: shown(delivery.createdAt),
  expires_at: expiryOf(delivery),
  payload: JSON.parse(body) as object,
});

/** Gives the status of the deliveries that have a result; undefined for any. */
export const statusOf = (result: string | undefined): DeliveryStatus | undefined =>
  (Object.keys(resultOf) as DeliveryStatus[]).find((status) => resultOf[status] === result);
