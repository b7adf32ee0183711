/** A command breaks a rule of the model. The code is stable; the gateway maps it to an HTTP status. */
export class DomainRuleBroken extends Error {
  override readonly name = 'DomainRuleBroken';
  constructor(
    readonly code: 'conflict' | 'not_found',
    message: string,
  ) {
    super(message);
  }
}
