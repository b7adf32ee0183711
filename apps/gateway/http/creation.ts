import { ApiHeader } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';

/** Documents the header `Idempotency-Key`, which makes a creation safe to repeat. */
export const IdempotencyKeyHeader = (): MethodDecorator =>
  ApiHeader({
    name: 'Idempotency-Key',
    required: false,
    description: 'Makes a repeated request safe for 24 hours: the same key and body give the first answer again.',
    schema: { type: 'string', minLength: 1, maxLength: 255, pattern: '^[\\x20-\\x7e]+$' },
  });

/** Documents the headers of a creation's answer. */
export const creationHeaders = {
  Location: 'The path of what was created.',
  'Idempotent-Replayed': '`true` when this is the answer to an earlier request with the same Idempotency-Key.',
};

interface Creation {
  readonly status: number;
  /** An envelope whose `data` has an `id`. */
  readonly body: object;
  readonly etag: string | null;
  readonly isReplayed: boolean;
}

/** Sets the status and headers of a creation's answer, and gives its body. */
export function replyCreated(reply: FastifyReply, base: string, { status, body, etag, isReplayed }: Creation): object {
  void reply.status(status);
  if (isReplayed) void reply.header('idempotent-replayed', 'true');
  if (etag !== null) void reply.header('etag', etag);
  if (status === 201) void reply.header('location', `${base}/${(body as { data: { id: string } }).data.id}`);
  return body;
}
