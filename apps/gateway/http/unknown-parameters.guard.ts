import type { CanActivate, ExecutionContext } from '@nestjs/common';
import type { OpenAPIObject } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { ApiError } from './api-error';
import { apiPath } from './openapi';
import { notAnObject } from './request-body';

type Schema = NonNullable<NonNullable<OpenAPIObject['components']>['schemas']>[string];

interface Known {
  readonly query: ReadonlySet<string>;
  /** Undefined for an operation without a body. */
  readonly body: Shape | undefined;
}

/** The fields of an object, each with the shape of what it holds: of an object, or of each object of a list. */
type Shape = ReadonlyMap<string, Shape | undefined>;

const noFields: Shape = new Map();

/**
 * Refuses every query parameter and body field that the OpenAPI document does not name. If a misspelt name were
 * ignored, the request would do something else than its caller means. It stands behind `ApiKeyGuard`, so that 401 and
 * 403 take precedence.
 */
export class UnknownParametersGuard implements CanActivate {
  /** The known names by method and route, with the route as Fastify writes it. */
  private readonly operations = new Map<string, Known>();

  constructor({ paths, components }: OpenAPIObject) {
    for (const [path, { get, post, put, patch, delete: remove }] of Object.entries(paths)) {
      const operations = { GET: get, HEAD: get, POST: post, PUT: put, PATCH: patch, DELETE: remove };
      for (const [method, operation] of Object.entries(operations)) {
        if (!operation) continue;
        const parameters = (operation.parameters ?? []).filter((one) => !('$ref' in one) && one.in === 'query');
        const body = operation.requestBody && 'content' in operation.requestBody && operation.requestBody.content;
        const schema = body ? body['application/json']?.schema : undefined;
        this.operations.set(`${method} ${apiPath}${path.replace(/\{(\w+)\}/g, ':$1')}`, {
          query: new Set(parameters.map((one) => ('name' in one ? one.name : ''))),
          body: schema && (shapeOf(schema, components) ?? new Map()),
        });
      }
    }
  }

  /** @throws {ApiError} `invalid_parameter` */
  canActivate(context: ExecutionContext): boolean {
    const { method, routeOptions, query, body } = context.switchToHttp().getRequest<FastifyRequest>();
    const known = this.operations.get(`${method} ${routeOptions.url}`);
    if (!known) return true;
    // To an operation without a body, `null` is as good as none.
    if (body === null && known.body) throw notAnObject();
    const unknown = [
      ...Object.keys(query ?? {}).filter((name) => !known.query.has(name)),
      ...unknownIn(body, known.body ?? noFields),
    ];
    if (unknown.length > 0) throw refused(unknown);
    return true;
  }
}

/** Gives the shape that a schema describes; undefined of anything but an object or a list of objects. */
function shapeOf(schema: Schema, components: OpenAPIObject['components']): Shape | undefined {
  if ('$ref' in schema) {
    const named = components?.schemas?.[schema.$ref.split('/').at(-1)!];
    return named && shapeOf(named, components);
  }
  // A reference that may be null, or has a description of its own, stands in a list of one.
  const [inner] = schema.allOf ?? schema.oneOf ?? schema.anyOf ?? [];
  if (inner) return shapeOf(inner, components);
  if (schema.items) return shapeOf(schema.items, components);
  if (!schema.properties) return undefined;
  return new Map(Object.entries(schema.properties).map(([name, each]) => [name, shapeOf(each, components)]));
}

/** Gives the paths of the fields that a shape does not have, such as `rules.3.patern`. */
function unknownIn(value: unknown, shape: Shape): string[] {
  if (Array.isArray(value))
    return value.flatMap((each, index) => unknownIn(each, shape).map((path) => `${index}.${path}`));
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, each]) => {
    if (!shape.has(name)) return [name];
    const inner = shape.get(name);
    return inner ? unknownIn(each, inner).map((path) => `${name}.${path}`) : [];
  });
}

function refused(names: readonly string[]): ApiError {
  const errors = names.map((param) => ({
    code: 'unknown_parameter',
    param,
    message: `There is no parameter "${param.length > 100 ? `${param.slice(0, 99)}…` : param}".`,
  }));
  return new ApiError('invalid_parameter', errors[0]!.message, { param: names[0], errors });
}
