import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import { ApiHeader } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from './api-error';

/** What follows the version in every tag of this process: nothing in the first epoch of its log. */
let afterVersion = '';

/**
 * Has all tags name an epoch of the log. A log that was restored gives versions a second time, to other states, and a
 * tag from before must name none of them.
 */
export const tagByEpoch = (epoch: number): void => {
  afterVersion = epoch === 1 ? '' : `-${epoch}`;
};

/** Gives what a tag says of a version, in its quotation marks. */
const opaque = (version: number | string): string => `"${version}${afterVersion}"`;

/**
 * Writes the entity tag of a version. It is weak, since an answer also has times that change without a new version
 * (RFC 9110 section 8.8.1).
 */
export const entityTag = (version: number | string): string => `W/${opaque(version)}`;

/** The header fields `If-Match` and `If-None-Match` of a request (RFC 9110 section 13.1). */
export class Preconditions {
  constructor(
    private readonly method: string,
    private readonly ifMatch: string | undefined,
    private readonly ifNoneMatch: string | undefined,
  ) {}

  /**
   * Checks what the request demands of the version that there is.
   *
   * @returns the version that a change must still find; undefined when any will do.
   * @throws {ApiError} `conflict` of PUT and PATCH, and `precondition_failed` of any other method: nothing may be done.
   */
  demand(version: number): number | undefined {
    if (this.ifMatch !== undefined && !names(this.ifMatch, version)) throw preconditionFailed(this.method);
    if (this.ifNoneMatch !== undefined && names(this.ifNoneMatch, version))
      throw preconditionFailed(this.method, 'If-None-Match');
    return this.ifMatch === undefined || this.ifMatch.trim() === '*' ? undefined : version;
  }

  /**
   * Tags the answer to a read with its version, and makes it a 304 where the reader has that version already.
   *
   * @returns whether it is a 304, which has no body.
   * @throws {ApiError} `precondition_failed` when `If-Match` demands another version.
   */
  isUnchanged(version: number | string, reply: FastifyReply): boolean {
    if (this.ifMatch !== undefined && !names(this.ifMatch, version)) throw preconditionFailed(this.method);
    const isKnown = this.ifNoneMatch !== undefined && names(this.ifNoneMatch, version);
    void reply.header('etag', entityTag(version));
    if (isKnown) void reply.status(304);
    return isKnown;
  }
}

/** Documents the header `If-Match`, which keeps a change from being made to a version that its caller has not seen. */
export const IfMatchHeader = (): MethodDecorator =>
  ApiHeader({
    name: 'If-Match',
    required: false,
    description: 'The ETag of the answer that led to this request. When it has changed since, nothing is done.',
  });

/** Documents the header `If-None-Match`. */
export const IfNoneMatchHeader = (): MethodDecorator =>
  ApiHeader({ name: 'If-None-Match', required: false, description: 'The ETag of an earlier answer.' });

/** Injects the preconditions of a request. */
export const CurrentPreconditions = createParamDecorator((_: unknown, context: ExecutionContext) => {
  const { method, headers } = context.switchToHttp().getRequest<FastifyRequest>();
  return new Preconditions(method, headers['if-match'], headers['if-none-match']);
});

const failures = {
  'If-Match':
    'It has another version than If-Match names, so nothing was done. Read it again, and decide with that ETag.',
  'If-None-Match':
    'It has a version that If-None-Match names, so nothing was done. Leave that header out to change it.',
};

/**
 * Makes the error of a precondition that does not hold. The public contract has 409 for PUT and PATCH (decision 32).
 */
export const preconditionFailed = (method: string, header: keyof typeof failures = 'If-Match'): ApiError =>
  new ApiError(method === 'PUT' || method === 'PATCH' ? 'conflict' : 'precondition_failed', failures[header], {
    param: header,
  });

/**
 * Says whether a list of entity tags names the version, or is `*`. Tags are compared weakly in both fields: all of ours
 * are weak, and a change of the times that they leave out is nothing that a writer could overwrite (decision 32).
 */
const names = (list: string, version: number | string): boolean =>
  list.trim() === '*' || list.split(',').some((tag) => tag.trim().replace(/^W\//, '') === opaque(version));
