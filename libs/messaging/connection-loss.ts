/** Connection exception, insufficient resources, operator intervention (but no statement that took too long), system error; read-only after a failover. */
const passingSqlStates = /^(08|53|57P|58)|^25006$/;
const networkCalls = new Set(['connect', 'read', 'write', 'getaddrinfo']);
const driverMessages =
  /connection (terminated|error|timeout|ended)|timeout exceeded when trying to connect|not queryable/i;

/** True when PostgreSQL could not be reached or went away: to be tried again. Anything else is a fault of ours. */
export function isConnectionLoss(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof AggregateError) return error.errors.every(isConnectionLoss);
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (typeof syscall === 'string' && networkCalls.has(syscall)) return true;
  if (typeof code === 'string' && passingSqlStates.test(code)) return true;
  return driverMessages.test(error.message) || isConnectionLoss(error.cause);
}
