import Ajv, { type ValidateFunction } from 'ajv';
import addFormats from 'ajv-formats';

/** What the tests read of an OpenAPI document. */
export interface OpenApi {
  readonly openapi: string;
  readonly servers: readonly [{ readonly url: string }];
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { readonly schemas: Record<string, object>; readonly securitySchemes: { apiKey: object } };
}

export interface Operation {
  readonly security?: object[];
  readonly parameters?: readonly { readonly name: string; readonly schema: object; readonly example?: unknown }[];
  readonly requestBody?: { readonly content: Record<string, MediaType> };
  readonly responses: Record<string, { content?: Record<string, MediaType>; headers: Record<string, object> }>;
}

export interface MediaType {
  readonly schema: { readonly $ref?: string };
  readonly example?: unknown;
  readonly examples?: Record<string, { readonly value: unknown }>;
}

/** Gives the operations of a document by their whole paths, below that of its server. */
export const pathsOf = ({ servers: [{ url }], paths }: OpenApi): OpenApi['paths'] =>
  Object.fromEntries(Object.entries(paths).map(([path, methods]) => [`${url}${path}`, methods]));

/** Headers that only some answers of a documented status have. */
const sometimes = new Set(['idempotent-replayed', '409 retry-after']);

/** Holds real answers to what the OpenAPI document says of them, and to nothing beside it. */
export class ApiContract {
  private readonly ajv = new Ajv({ strict: false, allErrors: true });
  private readonly compiled = new Map<object, ValidateFunction>();
  private readonly paths: OpenApi['paths'];

  constructor(document: OpenApi) {
    this.paths = pathsOf(document);
    addFormats(this.ajv);
    this.ajv.addSchema({ $id: 'document', components: { schemas: mapValues(document.components.schemas, closed) } });
  }

  /** Gives the documented operation of a request; undefined where there is none. */
  operation(method: string, path: string): Operation | undefined {
    const bare = path.split('?', 1)[0]!;
    const matching = Object.keys(this.paths).filter((one) =>
      new RegExp(`^${one.replace(/\{[^}]+\}/g, '[^/]+')}$`).test(bare),
    );
    // A path without parameters comes before one with them (OpenAPI 3.1, Paths Object).
    const template = matching.find((one) => one === bare) ?? matching[0];
    return template === undefined ? undefined : this.paths[template]![method.toLowerCase()];
  }

  /** @throws {Error} which says what of the answer the document does not have, or has otherwise. */
  check(method: string, path: string, answer: { status: number; headers: Headers; text: string }): void {
    const operation = this.operation(method, path);
    if (!operation) return;
    const { status, headers, text } = answer;
    const said = operation.responses[status];
    const fail = (what: string) => {
      throw new Error(
        `The OpenAPI document says otherwise of ${method} ${path} ${status}: ${what}\n${text.slice(0, 2_000)}`,
      );
    };
    if (!said) return fail('it has no such status');
    for (const name of Object.keys(said.headers).map((each) => each.toLowerCase()))
      if (!headers.has(name) && !sometimes.has(name) && !sometimes.has(`${status} ${name}`)) fail(`no header ${name}`);
    if (text === '') return said.content ? fail('it has a body') : undefined;
    const mediaType = headers.get('content-type')?.split(';', 1)[0] ?? '';
    const content = said.content?.[mediaType];
    if (!content) return fail(`it has no ${mediaType}`);
    if (mediaType !== 'application/json') return;
    const faults = this.faults(content.schema, JSON.parse(text));
    if (faults) fail(faults);
  }

  /** Gives what is wrong with a value, or undefined. */
  faults(schema: object, value: unknown): string | undefined {
    const known = this.compiled.get(schema);
    const validate = known ?? this.ajv.compile(absolute(schema) as object);
    this.compiled.set(schema, validate);
    return validate(value) ? undefined : this.ajv.errorsText(validate.errors);
  }
}

/** An object has the fields that are named, and no others, unless it is said to be open. So has each in it. */
const closed = (schema: unknown): unknown => closedWithin(absolute(schema));

function closedWithin(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closedWithin);
  if (typeof value !== 'object' || value === null) return value;
  const each = Object.fromEntries(Object.entries(value).map(([name, within]) => [name, closedWithin(within)]));
  return each.type === 'object' && 'properties' in each ? { additionalProperties: false, ...each } : each;
}

/**
 * Makes the references of a schema those of the document that is known to the validator. What this release answers is
 * among the values that its document has, also where a later one may add some.
 */
const absolute = (schema: unknown): unknown =>
  JSON.parse(
    JSON.stringify(schema)
      .replaceAll('"#/components/', '"document#/components/')
      .replaceAll('"x-extensible-enum":', '"enum":'),
  );

const mapValues = (from: Record<string, object>, map: (value: object) => unknown) =>
  Object.fromEntries(Object.entries(from).map(([name, value]) => [name, map(value)]));
