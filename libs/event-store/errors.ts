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

/** The projected row meets a unique index of its table. Nothing was written. */
export class UniqueViolation extends Error {
  override readonly name = 'UniqueViolation';
  constructor(
    readonly stream: string,
    readonly constraint: string,
  ) {
    super(`The row of stream ${stream} violates ${constraint}.`);
  }
}
