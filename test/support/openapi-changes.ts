import { existsSync, readdirSync } from 'node:fs';

/** What is compared of an OpenAPI 3.1 document. */
export interface Document {
  readonly servers?: readonly { readonly url: string }[];
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { readonly schemas: Record<string, Schema> };
}

interface Operation {
  readonly operationId?: string;
  readonly security?: readonly object[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly required?: boolean; readonly content: Content };
  readonly responses: Record<string, Response>;
}

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly schema?: Schema;
}

interface Response {
  readonly headers?: Record<string, { readonly schema?: Schema }>;
  readonly content?: Content;
}

type Content = Record<string, { readonly schema?: Schema }>;

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly items?: Schema;
  readonly properties?: Record<string, Schema>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  readonly allOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  readonly [word: string]: unknown;
}

/** Whether clients write the values of a schema, or read them. */
type Direction = 'written' | 'read';

/** Words that bind a value: of two, the higher is the narrower. */
const lowerBounds = ['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties'];
/** Words that bind a value: of two, the lower is the narrower. */
const upperBounds = ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties'];
const forms = ['pattern', 'format', 'uniqueItems', 'multipleOf'];
const structure = ['$ref', 'type', 'enum', 'items', 'properties', 'required', 'additionalProperties', 'allOf', 'anyOf'];
const promisingNothing = ['title', 'description', 'example', 'examples', 'default', 'deprecated', 'x-extensible-enum'];
const known = new Set([...lowerBounds, ...upperBounds, ...forms, ...structure, ...promisingNothing]);

/**
 * Gives what a client of the first document can no longer do by the second, a line each; nothing when all that was
 * promised still holds.
 *
 * What a client writes must still be taken, so the schema of a request may only get wider. What it reads must still be
 * what it was told, so that of an answer may only get narrower, but for further fields. The values of an `enum` in an
 * answer are all that there are; those of `x-extensible-enum` may become more.
 *
 * @throws {Error} at a word of JSON Schema that is not compared.
 */
export function breakingChanges(before: Document, after: Document): string[] {
  let changes = new Set<string>();
  /** Pairs of references that have been found compatible: nearly all answers have the same error, for example. */
  const compatible = new Set<string>();
  const say = (where: string, what: string): void => void changes.add(`${where} ${what}`);

  if (before.servers?.[0]?.url !== after.servers?.[0]?.url) say('The API', 'has another address');
  for (const [path, methods] of Object.entries(before.paths))
    for (const [method, was] of Object.entries(methods)) {
      const [where, is] = [`${method.toUpperCase()} ${path}`, after.paths[path]?.[method]];
      if (is) compareOperations(where, was, is);
      else say(where, 'is gone');
    }
  return [...changes];

  function compareOperations(where: string, was: Operation, is: Operation): void {
    // Generated clients name their methods after it.
    if (was.operationId !== is.operationId) say(where, `is now ${is.operationId}, which was ${was.operationId}`);
    if (!was.security?.length && is.security?.length) say(where, 'needs a key now');
    compareParameters(where, was.parameters ?? [], is.parameters ?? []);
    if (is.requestBody?.required && !was.requestBody?.required) say(where, 'needs a body now');
    compareContents(where, was.requestBody?.content, is.requestBody?.content, 'written');
    for (const [status, response] of Object.entries(was.responses)) {
      const there = is.responses[status];
      // No client relies on being refused.
      if (!there && Number(status) < 400) say(where, `never answers ${status} now`);
      if (there) compareResponses(`${where} ${status}`, response, there);
    }
    for (const status of Object.keys(is.responses))
      if (Number(status) < 400 && !was.responses[status]) say(where, `answers ${status} now`);
  }

  function compareParameters(where: string, were: readonly Parameter[], are: readonly Parameter[]): void {
    const named = (parameter: Parameter) => `${where} ${parameter.in} ${parameter.name}`;
    for (const was of were) {
      const is = are.find((each) => named(each) === named(was));
      if (is) compareSchemas(named(was), was.schema, is.schema, 'written');
      else say(named(was), 'is gone');
    }
    for (const is of are)
      if (is.required && !were.some((was) => was.required && named(was) === named(is))) say(named(is), 'is needed now');
  }

  function compareResponses(where: string, was: Response, is: Response): void {
    for (const [name, { schema }] of Object.entries(was.headers ?? {})) {
      const there = is.headers?.[name];
      if (there) compareSchemas(`${where} ${name}`, schema, there.schema, 'read');
      else say(`${where} ${name}`, 'is gone');
    }
    compareContents(where, was.content, is.content, 'read');
  }

  function compareContents(where: string, were: Content = {}, are: Content = {}, direction: Direction): void {
    for (const [mediaType, was] of Object.entries(were)) {
      const is = are[mediaType];
      if (is) compareSchemas(where, was.schema, is.schema, direction);
      else say(`${where} ${mediaType}`, 'is gone');
    }
  }

  function compareSchemas(where: string, was: Schema = {}, is: Schema = {}, direction: Direction): void {
    const pair = was.$ref && is.$ref ? `${direction} ${was.$ref} ${is.$ref}` : undefined;
    if (pair) {
      // Also where a schema refers to itself: it is being compared then.
      if (compatible.has(pair)) return;
      compatible.add(pair);
    }
    const found = changes.size;
    compareValues(where, whole(was, before), whole(is, after), direction);
    if (pair && changes.size > found) compatible.delete(pair);
  }

  function compareValues(where: string, was: Schema, is: Schema, direction: Direction): void {
    // Whoever writes a value keeps to the first of both, and whoever reads it relies on the other.
    const [writer, reader] = direction === 'written' ? [was, is] : [is, was];
    if (was.anyOf || is.anyOf) {
      const fits = (one: Schema, other: Schema) =>
        direction === 'written' ? areCompatible(one, other, direction) : areCompatible(other, one, direction);
      const readers = reader.anyOf ?? [reader];
      if (!(writer.anyOf ?? [writer]).every((one) => readers.some((other) => fits(one, other))))
        say(where, 'has other alternatives now');
      return;
    }
    const differs = (what: string, does: boolean) => void (does && say(where, `has another ${what} now`));
    const readTypes = typesOf(reader);
    const isRead = (type: string) => readTypes?.includes(type) || (type === 'integer' && readTypes?.includes('number'));
    if (readTypes && !typesOf(writer)?.every(isRead)) say(where, `is ${typed(is)} now, and was ${typed(was)}`);
    const unread = writer.enum?.filter((value) => !reader.enum?.includes(value)) ?? ['anything'];
    if (reader.enum && unread.length > 0)
      say(where, `${direction === 'read' ? 'can be' : 'cannot be'} ${unread.join(', ')} now`);
    for (const word of forms) differs(word, word in reader && reader[word] !== writer[word]);
    for (const word of lowerBounds) differs(word, word in reader && !(Number(writer[word]) >= Number(reader[word])));
    for (const word of upperBounds) differs(word, word in reader && !(Number(writer[word]) <= Number(reader[word])));
    differs('default', direction === 'written' && 'default' in was && was.default !== is.default);
    if (was.items ?? is.items) compareSchemas(`${where}[]`, was.items, is.items, direction);
    compareFields(where, was, is, direction);
  }

  function compareFields(where: string, was: Schema, is: Schema, direction: Direction): void {
    for (const [name, schema] of Object.entries(was.properties ?? {})) {
      const there = is.properties?.[name];
      if (there) compareSchemas(`${where} ${name}`, schema, there, direction);
      else if (direction === 'read' || is.additionalProperties === false) say(`${where} ${name}`, 'is gone');
    }
    const [writer, reader] = direction === 'written' ? [was, is] : [is, was];
    for (const name of reader.required ?? [])
      if (!writer.required?.includes(name))
        say(`${where} ${name}`, direction === 'read' ? 'can be absent now' : 'is needed now');
    const [were, are] = [was, is].map(({ additionalProperties: others }) => (others === true ? {} : others));
    if (typeof were === 'object') {
      if (are !== false) compareSchemas(`${where} *`, were, are, direction);
      else if (direction === 'written') say(`${where} *`, 'is gone');
    } else if (were === undefined && is.additionalProperties === false && direction === 'written')
      say(where, 'takes no further fields now');
  }

  function areCompatible(was: Schema, is: Schema, direction: Direction): boolean {
    const others = changes;
    changes = new Set();
    compareSchemas('', was, is, direction);
    const { size } = changes;
    changes = others;
    return size === 0;
  }
}

const typesOf = ({ type }: Schema): readonly string[] | undefined => (typeof type === 'string' ? [type] : type);

const typed = (schema: Schema): string => typesOf(schema)?.join(' or ') ?? 'anything';

/** Gives a schema with what it refers to, and with all parts of its `allOf` in one. */
function whole(schema: Schema, document: Document): Schema {
  const { $ref, allOf = [], ...own } = schema;
  for (const word of Object.keys(own)) if (!known.has(word)) throw new Error(`"${word}" is not compared.`);
  const referred = $ref === undefined ? undefined : document.components.schemas[$ref.split('/').at(-1)!];
  const parts = [...(referred ? [referred] : []), ...allOf].map((part) => whole(part, document));
  if (parts.length === 0) return own;
  const all = [...parts, own];
  const properties = all.flatMap((part) => part.properties ?? []);
  const required = all.flatMap((part) => part.required ?? []);
  return {
    ...(Object.assign({}, ...all) as Schema),
    ...(properties.length > 0 && { properties: Object.assign({}, ...properties) as Record<string, Schema> }),
    ...(required.length > 0 && { required }),
  };
}

/** Gives a document without its examples, which promise nothing. */
export function withoutExamples(value: unknown, isNames = false): unknown {
  if (Array.isArray(value)) return value.map((each) => withoutExamples(each));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => isNames || (name !== 'example' && name !== 'examples'))
      // The names of fields are no words of the specification.
      .map(([name, each]) => [name, withoutExamples(each, name === 'properties')]),
  );
}

/**
 * Gives the newest of the versions whose documents are kept in a folder, each as `<version>.json`; undefined when there
 * is none. Versions are compared by their numbers: 0.10.0 is newer than 0.9.0.
 */
export function lastRelease(folder: string): string | undefined {
  if (!existsSync(folder)) return undefined;
  const versions = readdirSync(folder).flatMap((name) => /^(\d+\.\d+\.\d+)\.json$/.exec(name)?.[1] ?? []);
  return versions.sort(byNumbers).at(-1);
}

function byNumbers(a: string, b: string): number {
  const [of, others] = [a, b].map((version) => version.split('.').map(Number)) as [number[], number[]];
  return of.reduce((difference, number, i) => difference || number - others[i]!, 0);
}
