/** A broken rule. The code is stable and mapped to HTTP in one place, at the edge. */
export class MailboxRuleBroken extends Error {
  override readonly name = 'MailboxRuleBroken';
  constructor(
    readonly code: 'conflict' | 'not_found' | 'validation_error',
    message: string,
    /** The field at fault, where it is one. */
    readonly param?: 'address' | 'outbound_provider',
  ) {
    super(message);
  }
}

/** An address that cannot be one of ours, whoever asks. */
export class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
  constructor(
    readonly code: 'invalid_parameter' | 'validation_error',
    /** Finer than the code, stable: `local_part_syntax`, `local_part_too_long`, … */
    readonly reason: string,
    /** For the customer: what is wrong and what to send. */
    message: string,
  ) {
    super(message);
  }
}
