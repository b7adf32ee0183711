/** Sorts the errors of PostgreSQL and of the connection to it. */
import { types } from 'node:util';

/**
 * `unreachable`: PostgreSQL could not be reached or went away. `busy`: the statement was given up because of others,
 * and may succeed when it is repeated. `data`: a value or a constraint of the schema refuses it. `ours`: PostgreSQL
 * refuses what this installation asks, such as its password, or knows no such table.
 */
export type PostgresFault = 'unreachable' | 'busy' | 'data' | 'ours';

/** The first SQLSTATE pattern that matches decides (PostgreSQL, appendix A). */
const sqlStates: readonly [RegExp, PostgresFault][] = [
  // Query cancelled, as by a time-out; object in use or locked; transaction rollback, such as a deadlock.
  [/^(57014|55(?!000)...|40...)$/, 'busy'],
  // Connection exceptions, insufficient resources, operator intervention, system errors, read-only after a failover, a
  // session that was ended because its transaction took long; and 55000, with which a database takes no connections
  // now. No statement here has another reason for it.
  [/^(08...|53...|57P..|58...|25006|25P0[34]|55000)$/, 'unreachable'],
  [/^(22|23)...$/, 'data'],
  [/^[0-9A-Z]{5}$/, 'ours'],
];
const networkCalls = new Set(['connect', 'read', 'write', 'getaddrinfo']);
const driverMessages =
  /connection (terminated|error|timeout|ended)|timeout exceeded when trying to connect|^(timeout expired|Query read timeout)$|not queryable|encountered a connection/i;

/** Sorts an error of `pg`, or of the socket below it. Undefined for any other error. */
export function postgresFault(error: unknown): PostgresFault | undefined {
  // Errors of sockets are of another realm where a test has one of its own.
  if (!types.isNativeError(error)) return undefined;
  if (error instanceof AggregateError)
    return error.errors.every((each) => postgresFault(each) === 'unreachable') ? 'unreachable' : undefined;
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (typeof syscall === 'string' && networkCalls.has(syscall)) return 'unreachable';
  if (driverMessages.test(error.message)) return 'unreachable';
  const known = typeof code === 'string' ? sqlStates.find(([form]) => form.test(code)) : undefined;
  return known?.[1] ?? postgresFault(error.cause);
}

/**
 * Tells whether the same statement may succeed when it is repeated: PostgreSQL was away, or gave the statement up
 * because of others, as in a deadlock or on a cancellation.
 */
export function isPassingFault(error: unknown): boolean {
  const fault = postgresFault(error);
  return fault === 'unreachable' || fault === 'busy';
}

/** Tells whether a lock was not had within `lock_timeout`, or was given up because others waited for each other. */
export const isLockTimeout = (error: unknown): error is Error =>
  error instanceof Error && /^(55P03|40P01)$/.test((error as NodeJS.ErrnoException).code ?? '');
