/** A rule of teams, owners and keys that was broken; nothing has changed. The message says what to do. */
export class AccountRuleBroken extends Error {
  override readonly name = 'AccountRuleBroken';
  constructor(
    readonly code:
      | 'team_not_found'
      | 'key_not_found'
      | 'key_ended'
      | 'invitation_not_found'
      | 'already_owner'
      | 'owner_not_found'
      | 'last_owner'
      | 'invalid_name'
      | 'invalid_email'
      | 'invalid_grant',
    message: string,
  ) {
    super(message);
  }
}
