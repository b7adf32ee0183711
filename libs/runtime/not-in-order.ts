/**
 * Thrown when an operator has to mend something before a process can start, or a command run. The message says what,
 * and is all that he has to read.
 */
export class NotInOrder extends Error {
  override readonly name: string = 'NotInOrder';
}
