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

/** A claim is refused: the domain was verified, and its team may still own the name. Nothing has changed. */
export class DomainHeld extends DomainRuleBroken {
  /**
   * @param why `record`: the ownership record is there. `grace`: it is gone, but not for long enough. `unknown`: nobody
   * can tell just now.
   * @param goneSince ISO 8601: the time since which the time of grace runs; absent if none does.
   */
  constructor(
    name: string,
    readonly why: 'record' | 'grace' | 'unknown',
    readonly goneSince?: string,
  ) {
    super('conflict', `${name} is held by another team.`);
  }
}
