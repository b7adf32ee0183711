import { randomInt } from 'node:crypto';

const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz';

const random = (length: number): string => Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join('');

/**
 * A public id such as `mdom_cl…`: the prefix, `cl`, nine base-36 digits of the time in milliseconds (so that ids sort
 * by age and index well) and sixteen of randomness (82 bits).
 */
export function newId(prefix: 'mdom' | 'mbx' | 'req' | 'key' | 'rpl' | 'exp', now = Date.now()): string {
  return `${prefix}_cl${now.toString(36).padStart(9, '0')}${random(16)}`;
}

/** `team_` and ten base-36 digits: short, as customers place it in their DNS. */
export const newTeamId = (): string => `team_${random(10)}`;

/** `smx_invite_` and 214 bits of randomness: whoever has it may accept the invitation. */
export const newInvitationToken = (): string => `smx_invite_${random(42)}`;

/** `smx_root_` and 214 bits of randomness: a bearer key, kept nowhere but with the customer. */
export const newApiKey = (): string => `smx_root_${random(42)}`;
