import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import Ajv, { type AnySchema } from 'ajv';
import addFormats from 'ajv-formats';
import { parse } from 'yaml';

export const eventsFolder = resolve(__dirname, '../../docs/events');

export interface PublishedMessage {
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: unknown;
}

/** The parts of docs/events/asyncapi.yaml that the tests read. */
export interface AsyncApi {
  readonly operations: Record<string, { readonly action: string }>;
  readonly channels: Record<string, { readonly address: string; readonly messages: Record<string, unknown> }>;
  readonly components: {
    readonly messages: Record<
      string,
      { readonly payload: { readonly $ref: string }; readonly examples?: readonly PublishedMessage[] }
    >;
    readonly schemas: { readonly headers: AnySchema };
  };
}

export const asyncApi = (): AsyncApi => parse(readFileSync(join(eventsFolder, 'asyncapi.yaml'), 'utf8')) as AsyncApi;

export const readSchema = (type: string, version: number | string): AnySchema =>
  JSON.parse(readFileSync(join(eventsFolder, 'schemas', `${type}.${version}.json`), 'utf8')) as AnySchema;

/** Closes every object of a schema, so that a field without a description is found. Subscribers must not do this. */
export function closed(schema: AnySchema): AnySchema {
  return JSON.parse(
    JSON.stringify(schema, (_, value: unknown) =>
      isObjectSchema(value) ? { ...value, additionalProperties: false } : value,
    ),
  ) as AnySchema;
}

const isObjectSchema = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && 'type' in value && value.type === 'object';

export function ajv(): Ajv {
  const made = new Ajv({ strict: true, strictTypes: 'log', allowUnionTypes: true, allErrors: true });
  return addFormats(made);
}

/**
 * Validates the headers of a message, and its payload against the schema that they name; both are closed. Gives the
 * faults.
 */
export function faultsOf({ headers, payload }: PublishedMessage): string[] {
  const [, type, version] = /^urn:sendmux:event:([A-Za-z]+):(\d+)$/.exec(headers.ce_dataschema ?? '') ?? [];
  if (!type || !version) return [`No schema is named ${headers.ce_dataschema}`];
  const validator = ajv();
  const faults = (what: string, schema: AnySchema, value: unknown) =>
    validator.validate(closed(schema), value)
      ? []
      : validator.errors!.map(
          (error) => `${what}${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`,
        );
  return [
    ...faults('headers', asyncApi().components.schemas.headers, headers),
    ...faults('payload', readSchema(type, version), payload),
    ...(headers.ce_type === `com.sendmux.${type}` ? [] : [`ce_type ${headers.ce_type} does not belong to ${type}`]),
  ];
}
