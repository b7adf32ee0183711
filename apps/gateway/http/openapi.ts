import { applyDecorators, type Type } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  ApiExtraModels,
  ApiProperty,
  ApiPropertyOptional,
  ApiResponse,
  DocumentBuilder,
  getSchemaPath,
  SwaggerModule,
  type OpenAPIObject,
} from '@nestjs/swagger';
import { ApiError, errorCodes, type ErrorCode } from './api-error';

class FaultSchema {
  @ApiProperty({ example: 'label_too_long', description: 'Finer than the code of the error; stable.' })
  code: string;
  @ApiPropertyOptional({ example: 'domain' })
  param?: string;
  @ApiProperty({ example: 'A label has 64 characters; 63 is the most (RFC 1035).' })
  message: string;
}

class ErrorSchema {
  @ApiProperty({ enum: Object.keys(errorCodes), example: 'invalid_parameter' })
  code: string;
  @ApiProperty({ description: 'For people: what is wrong and what to do.' })
  message: string;
  @ApiPropertyOptional({ description: 'The field, query parameter or header at fault.', example: 'domain' })
  param?: string;
  @ApiProperty({ description: 'Whether the same request may succeed later.' })
  retryable: boolean;
  @ApiPropertyOptional({ type: [FaultSchema] })
  errors?: FaultSchema[];
}

export class MetaSchema {
  @ApiProperty({ example: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx', description: 'The same as the header X-Request-Id.' })
  request_id: string;
}

class ErrorEnvelope {
  @ApiProperty({ enum: [false] })
  ok: boolean;
  @ApiProperty({ type: ErrorSchema })
  error: ErrorSchema;
  @ApiProperty({ type: MetaSchema })
  meta: MetaSchema;
}

const text = (description: string) => ({ description, schema: { type: 'string' } as const });
const requestIdHeader = { 'X-Request-Id': text('The id of this request, also in meta.request_id.') };
const limitHeaders = {
  'RateLimit-Limit': text('Requests a minute that this key may send.'),
  'RateLimit-Remaining': text('Requests left in this minute.'),
  'RateLimit-Reset': text('Seconds until the minute ends.'),
};
const headersOfStatus: Record<number, object> = {
  401: { 'WWW-Authenticate': text('Bearer, and what was wrong.') },
  429: { 'Retry-After': text('Seconds to wait.') },
  503: { 'Retry-After': text('Seconds to wait.') },
  504: { 'Retry-After': text('Seconds to wait.') },
};

/** What every operation behind an API key can answer. */
const always: readonly ErrorCode[] = [
  'invalid_parameter',
  'unauthorized',
  'insufficient_permissions',
  'rate_limited',
  'internal_error',
  'service_unavailable',
];

/** Documents the errors of an operation: those of every operation, and its own. */
export function ApiErrors(...codes: ErrorCode[]): MethodDecorator {
  const all = [...new Set([...always, ...codes])];
  const statuses = new Set(all.map((code) => errorCodes[code].status));
  return applyDecorators(
    ApiExtraModels(ErrorEnvelope),
    ...[...statuses].map((status) => {
      const ofStatus = all.filter((code) => errorCodes[code].status === status);
      return ApiResponse({
        status,
        description: ofStatus.map((code) => `\`${code}\`: ${errorCodes[code].meaning}`).join('\n\n'),
        headers: { ...requestIdHeader, ...headersOfStatus[status] },
        content: {
          'application/json': {
            schema: { $ref: getSchemaPath(ErrorEnvelope) },
            examples: Object.fromEntries(
              ofStatus.map((code) => [
                code,
                { value: new ApiError(code, errorCodes[code].meaning).envelope('req_clxxxxxxxxxxxxxxxxxxxxxxxxx') },
              ]),
            ),
          },
        },
      });
    }),
  );
}

/** Documents the success of an operation. */
export const ApiSuccess = (
  status: number,
  description: string,
  schema: Type | null,
  example?: object,
  headers: Record<string, string> = {},
): MethodDecorator =>
  applyDecorators(
    ...(schema ? [ApiExtraModels(schema)] : []),
    ApiResponse({
      status,
      description,
      headers: {
        ...requestIdHeader,
        ...limitHeaders,
        ...Object.fromEntries(Object.entries(headers).map(([name, meaning]) => [name, text(meaning)])),
      },
      ...(schema && { content: { 'application/json': { schema: { $ref: getSchemaPath(schema) }, example } } }),
    }),
  );

/** Documents a success that is text. @param examples by media type, then by their name. */
export const ApiText = (description: string, examples: Record<string, Record<string, string>>): MethodDecorator =>
  ApiResponse({
    status: 200,
    description,
    headers: { ...requestIdHeader, ...limitHeaders },
    content: Object.fromEntries(
      Object.entries(examples).map(([mediaType, named]) => [
        mediaType,
        {
          schema: { type: 'string' },
          examples: Object.fromEntries(Object.entries(named).map(([name, value]) => [name, { value }])),
        },
      ]),
    ),
  });

/** What the gateway offers, as its controllers say it. */
export function openApiDocument(app: NestFastifyApplication): OpenAPIObject {
  const config = new DocumentBuilder()
    .setTitle('Sendmux domains')
    .setDescription(
      'The whole life of a mail domain: add it, place its DNS records, verify it, create mailboxes on it, delete it. Every answer carries `ok` and `meta.request_id`.',
    )
    .setVersion('1')
    .addServer('/')
    .addBearerAuth(
      { type: 'http', scheme: 'bearer', bearerFormat: 'smx_root_…', description: 'An opaque API key of your team.' },
      'apiKey',
    )
    .addTag('domains', 'Mail domains of your team')
    .addTag('mailboxes', 'Mailboxes on your domains, and on myagent.mx')
    .addTag('invitations', 'Becoming an owner of a team')
    .build();
  return SwaggerModule.createDocument(app, config);
}

/** `/api/v1/openapi.json`, and `/api/v1/docs` to read it. */
export function serveOpenApi(app: NestFastifyApplication, document: OpenAPIObject): void {
  SwaggerModule.setup('api/v1/docs', app, document, {
    raw: ['json'],
    jsonDocumentUrl: 'api/v1/openapi.json',
    customSiteTitle: 'Sendmux domains API',
  });
}
