/** Thrown when a rule of teams, owners and keys is broken; nothing has changed. The message says what to do. */
export class AccountRuleBroken extends Error {
  override readonly name = 'AccountRuleBroken';
  constructor(
    readonly code:
      | 'team_not_found'
      | 'team_in_use'
      | 'key_not_found'
      | 'key_ended'
      | 'grant_exceeds'
      | 'invitation_not_found'
      | 'already_owner'
      | 'too_many_invitations'
      | 'setup_link_not_found'
      | 'too_many_setup_links'
      | 'too_many_setup_mails'
      | 'owner_not_found'
      | 'last_owner'
      | 'invalid_name'
      | 'invalid_email'
      | 'invalid_grant',
    message: string,
    /** How many there are, and how many there may be, where the rule is about a number. */
    readonly count?: { readonly current: number; readonly limit: number },
    /** Seconds after which the same may be allowed, where the rule is about a time. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}
