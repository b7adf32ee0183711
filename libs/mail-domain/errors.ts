/** A broken rule. The code is stable and mapped to HTTP in one place, at the edge. */
export class DomainRuleBroken extends Error {
  override readonly name = 'DomainRuleBroken';
  constructor(
    readonly code: 'conflict' | 'not_found',
    message: string,
  ) {
    super(message);
  }
}

/** A name that cannot be added. `invalid_parameter`: not a hostname. `validation_error`: a hostname we must refuse. */
export class NameRefused extends Error {
  override readonly name = 'NameRefused';
  constructor(
    readonly code: 'invalid_parameter' | 'validation_error',
    /** Finer than the code, stable: `idna_invalid`, `public_suffix`, … */
    readonly reason: string,
    /** For the customer: what is wrong and what to send. */
    message: string,
  ) {
    super(message);
  }
}
