/** Somebody else has appended to the stream since it was read. Nothing was written. */
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

/** The projected row breaks a rule of its table: a unique index, a check, or a trigger that speaks as one. Nothing was written. */
export class ConstraintViolation extends Error {
  override readonly name = 'ConstraintViolation';
  constructor(
    readonly stream: string,
    readonly constraint: string,
    /** What the database says of it (the DETAIL of its error). */
    readonly detail: string | undefined,
  ) {
    super(`The row of stream ${stream} violates ${constraint}.`);
  }
}

/**
 * The connection to the database ended, or its time was up, before the answer to an append came. The append may have
 * happened, and may happen yet: the statement is still with the server. Reading the stream tells what has happened;
 * whoever decides again and appends at the same version is safe, since one of the two is refused.
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
