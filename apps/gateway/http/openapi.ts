import { applyDecorators, type Type } from '@nestjs/common';
import {
  ApiExtraModels,
  ApiProperty,
  ApiPropertyOptional,
  ApiResponse,
  getSchemaPath,
  type ApiPropertyOptions,
} from '@nestjs/swagger';
import { ApiError, errorCodes, type ErrorCode } from './api-error';

const exampleId = 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx';

/**
 * Documents a text by the values that it has today. A later release may have more of them, as it may not of an `enum`:
 * clients must accept values that they do not know.
 */
export const extensible = (values: readonly (string | null)[]): ApiPropertyOptions =>
  ({ type: 'string', 'x-extensible-enum': [...values] }) as ApiPropertyOptions;

const atFault = 'The field, query parameter or header at fault; `body` or `request` where it is the whole of that.';

class FaultSchema {
  @ApiProperty({ example: 'label_too_long', description: 'Often finer than the code of the error; stable.' })
  code: string;
  @ApiProperty({ example: 'domain', description: atFault })
  field: string;
  @ApiProperty({ example: 'domain', description: 'The same as `field`.' })
  param: string;
  @ApiProperty({ example: 'A label has 64 characters; 63 is the most (RFC 1035).' })
  message: string;
}

class ErrorSchema {
  @ApiProperty({ ...extensible(Object.keys(errorCodes)), example: 'invalid_parameter' })
  code: string;
  @ApiProperty({ description: 'For people: what is wrong and what to do.' })
  message: string;
  @ApiPropertyOptional({ description: `${atFault} Always there with a status of 400 or 422.`, example: 'domain' })
  param?: string;
  @ApiProperty({ description: 'Whether the same request may succeed later.' })
  retryable: boolean;
  @ApiProperty({ format: 'uri', description: 'A page that explains the code.' })
  doc_url: string;
  @ApiPropertyOptional({ type: 'integer', description: 'Of `limit_exceeded`: how many your team has.' })
  current?: number;
  @ApiPropertyOptional({ type: 'integer', description: 'Of `limit_exceeded`: how many it may have.' })
  limit?: number;
  @ApiPropertyOptional({
    type: [FaultSchema],
    description: 'The single faults. Wherever there is a `param`, one of them has it as its `field`.',
  })
  errors?: FaultSchema[];
}

export class MetaSchema {
  @ApiProperty({ example: exampleId, description: 'The same as the header X-Request-Id.' })
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
/** The headers that an answer to a key has. */
export const limitHeaders = {
  'RateLimit-Limit': text('Requests a minute that this key may send.'),
  'RateLimit-Remaining': text('Requests left in this minute.'),
  'RateLimit-Reset': text('Seconds until the minute ends.'),
  'X-RateLimit-Limit': text('The same as RateLimit-Limit.'),
  'X-RateLimit-Remaining': text('The same as RateLimit-Remaining.'),
  'X-RateLimit-Reset': text('When the minute ends, in seconds since 1970.'),
};
const headersOfStatus: Record<number, object> = {
  401: { 'WWW-Authenticate': text('Bearer, and what was wrong.') },
  409: { 'Retry-After': text('Seconds to wait, where the error says `retryable`.') },
  429: { 'Retry-After': text('Seconds to wait.'), ...limitHeaders },
  503: { 'Retry-After': text('Seconds to wait.') },
  504: { 'Retry-After': text('Seconds to wait.') },
};

/** The errors that every operation behind an API key can answer. */
const always: readonly ErrorCode[] = [
  'invalid_parameter',
  'authentication_required',
  'insufficient_permissions',
  'request_timeout',
  'rate_limit_exceeded',
  'internal_error',
  'service_unavailable',
];

/** Gives an error for an example. What lacks a field, or has an impossible one, names it. */
const exampleOf = (code: ErrorCode): ApiError =>
  new ApiError(
    code,
    errorCodes[code].meaning,
    code === 'missing_parameter' || code === 'validation_error' ? { param: 'domain' } : {},
  );

/** Documents the errors of an operation: its own, and those of every operation. */
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
              ofStatus.map((code) => [code, { value: exampleOf(code).envelope(exampleId, 'https://app.sendmux.ai') }]),
            ),
          },
        },
      });
    }),
  );
}

/** Documents the successful answer of an operation. */
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

/**
 * Documents a successful answer for a tool, in several media types.
 *
 * @param examples texts by media type, then by name.
 */
export const ApiText = (description: string, examples: Record<string, Record<string, string>>): MethodDecorator =>
  ApiResponse({
    status: 200,
    description,
    headers: {
      ...requestIdHeader,
      ...limitHeaders,
      'Content-Disposition': text('`attachment`, with a name for the file.'),
    },
    content: Object.fromEntries(
      Object.entries(examples).map(([mediaType, named]) => [
        mediaType,
        {
          schema: isData(mediaType) ? { type: 'object', additionalProperties: true } : { type: 'string' },
          // An example is of the same form as the schema, and YAML is not read here.
          ...(mediaType !== 'application/yaml' && { examples: examplesOf(mediaType, named) }),
        },
      ]),
    ),
  });

/** The schema of JSON and YAML is that of the data that the text is read as. */
const isData = (mediaType: string): boolean => /\b(json|yaml)$/.test(mediaType);

const examplesOf = (mediaType: string, named: Record<string, string>) =>
  Object.fromEntries(
    Object.entries(named).map(([name, text]) => [
      name,
      { value: mediaType === 'application/json' ? (JSON.parse(text) as unknown) : text },
    ]),
  );

/** The path below which the document has its own paths. Clients take it for a part of the address of the API. */
export const apiPath = '/api/v1';
