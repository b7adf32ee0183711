/** Thrown when another append has moved the stream since it was read. Nothing was written. */
export class WrongExpectedVersion extends Error {
  override readonly name = 'WrongExpectedVersion';
  constructor(
    readonly stream: string,
    readonly expected: number,
    readonly actual: number,
  ) {
    super(`Stream ${stream} is at version ${actual}, not at ${expected}: read it again and decide again.`);
  }
}

/**
 * Thrown when the projected row breaks a rule of its table: a unique index, a check, or a trigger that raises a
 * constraint violation. Nothing was written.
 */
export class ConstraintViolation extends Error {
  override readonly name = 'ConstraintViolation';
  constructor(
    readonly stream: string,
    readonly constraint: string,
    /** The DETAIL of the database's error. */
    readonly detail: string | undefined,
  ) {
    super(`The row of stream ${stream} violates ${constraint}.`);
  }
}

/**
 * Thrown when the connection ended, or the time was up, before the answer to an append came. The append may have
 * happened, or may still happen, since the server still has the statement. Reading the stream shows which. Deciding
 * again and appending at the same version is safe: one of the two is refused.
 */
export class AppendUnanswered extends Error {
  override readonly name = 'AppendUnanswered';
  constructor(
    readonly stream: string,
    override readonly cause: unknown,
  ) {
    super(`The connection ended before an append to ${stream} had its answer: it may have happened.`);
  }
}

/**
 * Thrown when the partition of the log that appends come to cannot be opened: for the reason in `cause`, or else since
 * others hold it back for too long. Nothing was written.
 */
export class PartitionClosed extends Error {
  override readonly name = 'PartitionClosed';
  /** Without a cause that of an object in use, as PostgreSQL has it, so that callers try again. */
  readonly code: string | undefined;

  constructor(message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.code = options.cause === undefined ? '55006' : undefined;
  }
}

/**
 * Thrown by a reader that has read events which the log does not have any more, as after a fail-over to a standby that
 * had not received them. A reader begins again where its checkpoint in the same database says.
 */
export class LogWentBack extends Error {
  override readonly name = 'LogWentBack';
  constructor(
    readonly position: number,
    /** The newest position that the log has drawn. */
    readonly newest: number,
  ) {
    super(`The log ends at ${newest}, and was read up to ${position}: the database is one from before that.`);
  }
}
