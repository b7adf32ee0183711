import type { KeptEvent } from './kept-event';

/** Thrown for a line that is not an event as an export writes it; the message says why. */
export class LineRefused extends Error {
  override readonly name = 'LineRefused';
}

const typePrefix = 'com.sendmux.';

/** Gives the URN of the JSON Schema of an event's data, by type and version. */
export const dataSchema = (type: string, version: number): string => `urn:sendmux:event:${type}:${version}`;

/**
 * Reads an event from a line of an export or an archive. It does not check the hash; `checkChain` does.
 *
 * @throws {LineRefused}
 */
export function fromLine(line: string): KeptEvent {
  const attributes = parsed(line);
  const attribute = (name: string, form: RegExp): string => {
    const value = attributes[name];
    if (typeof value !== 'string' || !form.test(value))
      throw new LineRefused(
        value === undefined ? `it has no ${name}` : `its ${name} is not as export writes it: ${JSON.stringify(value)}`,
      );
    return value;
  };
  attribute('specversion', /^1\.0$/);
  const type = attribute('type', /^com\.sendmux\.\w+$/).slice(typePrefix.length);
  const stream = attribute('subject', /^[^/]+$/);
  const version = Number(attribute('streamversion', /^[1-9]\d{0,9}$/));
  const id = `${stream}/${version}${attributes.epoch === undefined ? '' : `/${attribute('epoch', /^[1-9]\d{0,15}$/)}`}`;
  if (attribute('id', /^/) !== id) throw new LineRefused(`its id is not ${id}`);
  const schema = attribute('dataschema', /^urn:sendmux:event:\w+:[1-9]\d{0,4}$/);
  const schemaVersion = Number(schema.slice(schema.lastIndexOf(':') + 1));
  if (schema !== dataSchema(type, schemaVersion)) throw new LineRefused(`its dataschema is not of ${type}: ${schema}`);
  const hash = (name: string) => Buffer.from(attribute(name, /^[0-9a-f]{64}$/), 'hex');
  return {
    stream,
    version,
    type,
    schemaVersion,
    position: Number(attribute('sequence', /^\d{16}$/)),
    time: attribute('time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(\d{3})?Z$/),
    metadata: attribute('metadata', /^\{/),
    previous: hash('previoushash'),
    hash: hash('hash'),
    data: dataOf(line, attributes),
  };
}

function parsed(line: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Text that is not JSON is refused below, like any JSON that is not an object.
  }
  throw new LineRefused('it is no JSON object: is the file whole?');
}

const before = ',"data":';

/**
 * Finds the data as text. The other members are scalars in which quotes are escaped, so the first match is the member
 * itself.
 */
function dataOf(line: string, { data, data_base64: base64 }: Readonly<Record<string, unknown>>): string {
  if (typeof base64 === 'string' && data === undefined) return Buffer.from(base64, 'base64').toString('utf8');
  const at = line.indexOf(before);
  if (at < 0 || data === undefined)
    throw new LineRefused('it has no data as export writes it: another program has rewritten it');
  return line.slice(at + before.length, line.lastIndexOf('}'));
}
