/** Describes the records of a domain for the OpenAPI document, by what the checks give for an example. */
import { byField, type ByField, type Check, type Expected } from '@app/mail-records';

/** The part of a schema object of OpenAPI that describes records. */
export interface RecordSchema {
  readonly type: 'object' | 'array' | 'string' | 'number';
  readonly description?: string;
  readonly example?: unknown;
  readonly items?: RecordSchema;
  readonly required?: string[];
  readonly properties?: Record<string, RecordSchema>;
}
type ObjectSchema = RecordSchema & { readonly properties: Record<string, RecordSchema> };

/** The domain of the examples in the OpenAPI document. */
const example: Expected = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};

/** Gives the schema of `dns_records`. */
export const dnsRecordsSchema = (): ObjectSchema => objectOf(byField(entrySchema));

function entrySchema(check: Check): RecordSchema {
  const types = [...new Set(check.records(example).map(({ type }) => type))];
  return { ...schemaOf(check.entry(example)), description: `${types.join(', ')}: ${check.label}` };
}

function objectOf(fields: ByField<RecordSchema>): ObjectSchema {
  const properties = Object.entries(fields).map(([name, given]): [string, RecordSchema] => [
    name,
    isSchema(given) ? given : objectOf(given),
  ]);
  return { type: 'object', required: Object.keys(fields), properties: Object.fromEntries(properties) };
}

const isSchema = (given: RecordSchema | ByField<RecordSchema>): given is RecordSchema => typeof given.type === 'string';

/** What a field of a record means, where its name and an example do not tell. */
const descriptions: ReadonlyMap<string, string> = new Map([
  ['host', 'The name relative to your registrable domain, as DNS providers ask for it; `@` at its top.'],
]);

/** Gives the schema of a value: of a list, that of its first item. */
function schemaOf(value: unknown, field = ''): RecordSchema {
  if (Array.isArray(value)) return { type: 'array', items: schemaOf(value[0]) };
  if (typeof value === 'object' && value !== null) {
    const properties = Object.entries(value).map(([key, each]): [string, RecordSchema] => [key, schemaOf(each, key)]);
    return { type: 'object', required: Object.keys(value), properties: Object.fromEntries(properties) };
  }
  const description = descriptions.get(field);
  return { type: typeof value as 'string' | 'number', example: value, ...(description && { description }) };
}
