import { rdata, type Operation } from '@app/mail-records';

/**
 * Writes the operations of a plan as lines of nsupdate, without the word `update`. A TXT value to delete is split into
 * strings as late as possible, since RFC 2136 compares the whole RDATA.
 */
export function asUpdates(operations: readonly Operation[]): string[] {
  return operations.flatMap(({ action, name, type, values, replaces, ttl }) => [
    ...(action === 'delete' ? values : replaces).map((value) => `delete ${name}. ${type} ${rdata(type, value)}`),
    ...(ttl === null ? [] : values.map((value) => `add ${name}. ${ttl} ${type} ${rdata(type, value)}`)),
  ]);
}
