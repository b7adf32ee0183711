import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import type { OpenAPIObject } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { ApiError } from './api-error';

interface Known {
  readonly query: ReadonlySet<string>;
  readonly body: ReadonlySet<string>;
}

/**
 * Refuses every query parameter and field of a body that the OpenAPI document does not name: ignored without a word, a
 * misspelt one would do something else than its caller means. After the guards, so that 401 and 403 come first.
 */
export class NothingUnknown implements NestInterceptor {
  /** By method and route, as Fastify writes it. */
  private readonly operations = new Map<string, Known>();

  constructor({ paths, components }: OpenAPIObject) {
    for (const [path, { get, post, put, delete: remove }] of Object.entries(paths))
      for (const [method, operation] of Object.entries({ GET: get, HEAD: get, POST: post, PUT: put, DELETE: remove })) {
        if (!operation) continue;
        const parameters = (operation.parameters ?? []).filter((one) => !('$ref' in one) && one.in === 'query');
        const body = operation.requestBody && 'content' in operation.requestBody && operation.requestBody.content;
        const schema = body && body['application/json']?.schema;
        const named = schema && '$ref' in schema ? components?.schemas?.[schema.$ref.split('/').at(-1)!] : schema;
        this.operations.set(`${method} ${path.replace(/\{(\w+)\}/g, ':$1')}`, {
          query: new Set(parameters.map((one) => ('name' in one ? one.name : ''))),
          body: new Set(named && 'properties' in named ? Object.keys(named.properties!) : []),
        });
      }
  }

  /** @throws {ApiError} `invalid_parameter` */
  intercept(context: ExecutionContext, next: CallHandler) {
    const { method, routeOptions, query, body } = context.switchToHttp().getRequest<FastifyRequest>();
    const known = this.operations.get(`${method} ${routeOptions.url}`);
    if (known) {
      const unknown = [
        ...Object.keys(query ?? {}).filter((name) => !known.query.has(name)),
        ...Object.keys(body ?? {}).filter((name) => !known.body.has(name)),
      ];
      if (unknown.length > 0) throw refused(unknown);
    }
    return next.handle();
  }
}

function refused(names: readonly string[]): ApiError {
  const errors = names.map((param) => ({
    ...{ code: 'unknown_parameter', param, message: `There is no parameter "${param}".` },
  }));
  return new ApiError('invalid_parameter', errors[0]!.message, { param: names[0], errors });
}
