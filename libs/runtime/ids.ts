import { randomFillSync } from 'node:crypto';

const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz';

/** Octets below this are taken, so that each digit is as likely as any other: it is a multiple of their number. */
const fairBelow = 7 * alphabet.length;
const octets = Buffer.alloc(2_048);
let used = octets.length;

/** Makes random digits, of octets that the generator gives many of at a time. */
function random(length: number): string {
  let text = '';
  while (text.length < length) {
    if (used === octets.length) {
      randomFillSync(octets);
      used = 0;
    }
    const octet = octets[used]!;
    // No secret that was made of it is left in memory.
    octets[used++] = 0;
    if (octet < fairBelow) text += alphabet[octet % alphabet.length];
  }
  return text;
}

/**
 * Makes a public id such as `mdom_cl…`: the prefix, `cl`, nine base-36 digits of the time in milliseconds (so that ids
 * sort by age and index well) and sixteen random ones (82 bits).
 */
export function newId(
  prefix: 'mdom' | 'mbx' | 'req' | 'key' | 'rpl' | 'exp' | 'slnk' | 'claim' | 'whk' | 'wdlv' | 'msg',
  now = Date.now(),
): string {
  return `${prefix}_cl${now.toString(36).padStart(9, '0')}${random(16)}`;
}

/** Gives when an id of `newId` was made, in milliseconds since the epoch; undefined of any other text. */
export function timeOfId(id: string): number | undefined {
  const [, time] = /^[a-z]+_cl([0-9a-z]{9})[0-9a-z]{16}$/.exec(id) ?? [];
  return time === undefined ? undefined : parseInt(time, 36);
}

/** Makes a team id: `team_` and ten base-36 digits, which is short since customers place it in their DNS. */
export const newTeamId = (): string => `team_${random(10)}`;

/** Makes an invitation's token: `smx_invite_` and 214 bits of randomness. Whoever has it may accept the invitation. */
export const newInvitationToken = (): string => `smx_invite_${random(42)}`;

/** Makes a setup link's token: `smx_setup_` and 214 bits of randomness. Whoever has it may set up that one domain. */
export const newSetupToken = (): string => `smx_setup_${random(42)}`;

/** Makes the token of a console session: `smx_session_` and 214 bits of randomness. Only a cookie has it. */
export const newSessionToken = (): string => `smx_session_${random(42)}`;

/**
 * Makes an API key: `smx_root_` and 214 bits of randomness. It is a bearer key of which only the customer has a copy.
 */
export const newApiKey = (): string => `smx_root_${random(42)}`;
