import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyRequest } from 'fastify';
import { ApiError } from './api-error';

/** How deep arrays and objects may be nested in a body. Ours are flat; what walks a body may recurse that far. */
const depthLimit = 16;

/**
 * Accepts bodies of JSON only, as an object, or as `null` for an operation without a body. What has no content has no
 * media type (RFC 9110 section 8.3), so an empty body is no body whatever it is called: many clients always send a
 * type.
 */
export function acceptJsonOnly(app: NestFastifyApplication): void {
  const fastify = app.getHttpAdapter().getInstance();
  fastify.removeContentTypeParser('text/plain');
  fastify.addHook('onRequest', ({ headers }, _reply, done) => {
    // Another type, or none that is one, is only looked at when there is content. A parser cannot be found for it.
    const type = headers['content-type'];
    if (type !== undefined && !/^\s*application\/json\s*(;|$)/i.test(type)) delete headers['content-type'];
    done();
  });
  app.useBodyParser('application/json', {}, (request, body: Buffer, done) => {
    try {
      const { headers } = request as unknown as FastifyRequest;
      if (body.length > 0) assertPlain(headers['content-encoding']);
      done(null, body.length === 0 ? undefined : readJson(headers['content-type']!, body));
    } catch (error) {
      done(error as Error);
    }
  });
  app.useBodyParser('*', {}, (_request, body: Buffer, done) => {
    if (body.length === 0) done(null, undefined);
    else done(unsupported('Send the body as application/json.'));
  });
}

/** @throws {ApiError} `unsupported_media_type` for a body that is said to be compressed (RFC 9110 section 8.4). */
function assertPlain(encoding = 'identity'): void {
  if (encoding.split(',').every((coding) => ['', 'identity'].includes(coding.trim().toLowerCase()))) return;
  throw new ApiError('unsupported_media_type', 'Send the body as it is: no Content-Encoding is read.', {
    param: 'Content-Encoding',
    headers: { 'accept-encoding': 'identity' },
  });
}

/**
 * Reads a body that is not empty.
 *
 * @throws {ApiError} `unsupported_media_type`, `invalid_parameter`
 */
export function readJson(contentType: string, body: Buffer): object | null {
  const charset = /;[ \t]*charset=("?)([^";]*)\1/i.exec(contentType)?.[2];
  if (charset !== undefined && !/^utf-?8$/i.test(charset.trim()))
    throw unsupported('Send the body in UTF-8: JSON has no other charset (RFC 8259 section 8.1).');
  const text = textOf(body);
  if (isNestedDeeper(text, depthLimit)) throw refused(`The body is nested more than ${depthLimit} levels deep.`);
  const value = parsed(text);
  if (typeof value !== 'object' || Array.isArray(value)) throw notAnObject();
  if (!isWellFormed(value)) throw refused('The body has half of a surrogate pair, which is no character.');
  return value;
}

/** Makes the error of a body that is no object. */
export const notAnObject = (): ApiError => refused('The body must be a JSON object.');

function textOf(body: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    throw refused('The body is not valid UTF-8 (RFC 8259 section 8.1).');
  }
}

function parsed(text: string): unknown {
  try {
    // `__proto__` and `constructor` become fields, so that they are refused by name like any other unknown field.
    return JSON.parse(text);
  } catch {
    throw refused('The body is not valid JSON.');
  }
}

/** Finds deep nesting in the text, before anything that recurses has to walk its value. */
function isNestedDeeper(text: string, limit: number): boolean {
  let depth = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (isInString) {
      if (char === '\\') at++;
      else if (char === '"') isInString = false;
    } else if (char === '"') isInString = true;
    else if (char === '[' || char === '{') {
      if (++depth > limit) return true;
    } else if (char === ']' || char === '}') depth--;
  }
  return false;
}

/** Says whether all strings of a value that is not deeply nested can be written as UTF-8 (RFC 8259 section 8.2). */
function isWellFormed(value: unknown): boolean {
  if (typeof value === 'string') return !/\p{Surrogate}/u.test(value);
  if (typeof value !== 'object' || value === null) return true;
  return Object.entries(value).every(([name, each]) => isWellFormed(name) && isWellFormed(each));
}

const refused = (message: string) => new ApiError('invalid_parameter', message, { param: 'body' });
const unsupported = (message: string) => new ApiError('unsupported_media_type', message);
