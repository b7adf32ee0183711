/** Thrown when a command breaks a rule. The code is stable; the edge maps it to HTTP in one place. */
export class MailboxRuleBroken extends Error {
  override readonly name = 'MailboxRuleBroken';
  constructor(
    readonly code: 'conflict' | 'not_found' | 'validation_error',
    message: string,
    /** The field that is at fault, if it is a single one. */
    readonly param?: 'address' | 'outbound_provider',
  ) {
    super(message);
  }
}

/** Thrown for an address that no mailbox of ours can have, whoever asks. */
export class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
  constructor(
    readonly code: 'invalid_parameter' | 'validation_error',
    /** A stable reason that is finer than the code: `local_part_syntax`, `local_part_too_long`, … */
    readonly reason: string,
    /** Tells the customer what is wrong and what to send. */
    message: string,
  ) {
    super(message);
  }
}
