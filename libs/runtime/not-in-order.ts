/**
 * Thrown when an operator has to mend something before a process can start, or a command run. The message says what,
 * and is all that he has to read: where in the code it was found helps nobody.
 */
export class NotInOrder extends Error {
  override readonly name: string = 'NotInOrder';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.stack = `${new.target.name}: ${message}`;
  }
}
