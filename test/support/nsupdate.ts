import type { Operation } from '@app/mail-domain';
import { rdata } from '../../libs/mail-domain/record-sets';

/**
 * The operations of a plan as lines of nsupdate, without the word `update`. A TXT value that is taken away has to be cut into
 * strings as late as possible: RFC 2136 compares the whole RDATA.
 */
export function asUpdates(operations: readonly Operation[]): string[] {
  return operations.flatMap(({ action, name, type, values, replaces, ttl }) => [
    ...(action === 'delete' ? values : replaces).map((value) => `delete ${name}. ${type} ${rdata(type, value)}`),
    ...(ttl === null ? [] : values.map((value) => `add ${name}. ${ttl} ${type} ${rdata(type, value)}`)),
  ]);
}
