import { NameRefused, parseDomainName } from '@app/mail-domain';
import { AddressRefused } from './errors';

/** The domain that all teams share. It is ours: no team adds or deletes it. */
export const sharedDomain = 'myagent.mx';

/** Octets of a local part, and of an address (RFC 5321 section 4.5.3.1; 254 by its path of 256 with the brackets). */
const localPartLimit = 64;
const addressLimit = 254;

export interface Address {
  /** Canonical: NFC and case folded; the domain in A-labels. Two that reach the same mailbox are equal. */
  readonly address: string;
  readonly localPart: string;
  /** Canonical as a domain's name, or `sharedDomain`. */
  readonly domain: string;
}

/** `atext` of RFC 5322 section 3.2.3, and with RFC 6531 section 3.3 whatever is not ASCII and prints. */
const dotString = /^[\w!#$%&'*+/=?^`{|}~\u0080-\u{10ffff}-]+(\.[\w!#$%&'*+/=?^`{|}~\u0080-\u{10ffff}-]+)*$/u;

/** Controls, unassigned and private characters, and spaces of every kind. */
const unprintable = /[\p{C}\p{Z}]/u;

const malformed = (reason: string, message: string) => new AddressRefused('invalid_parameter', reason, message);

/**
 * The canonical form of a mailbox's address. Case does not tell two mailboxes apart here, as RFC 5321 section 2.4 lets the
 * receiving host decide; nor does how a letter with an accent is composed.
 *
 * @throws {AddressRefused} with what to send instead.
 */
export function parseAddress(input: string): Address {
  const at = input.lastIndexOf('@');
  if (at < 0)
    throw malformed('at_sign_missing', `${quoted(input)} has no @. Send the whole address, such as ada@mail.acme.com.`);
  const localPart = canonicalLocalPart(input.slice(0, at));
  const domain = canonicalDomain(input.slice(at + 1));
  const address = `${localPart}@${domain}`;
  const octets = Buffer.byteLength(address);
  if (octets > addressLimit)
    throw malformed(
      'address_too_long',
      `The address has ${octets} octets; ${addressLimit} is the most (RFC 5321 section 4.5.3.1.3).`,
    );
  return { address, localPart, domain };
}

function canonicalLocalPart(written: string): string {
  const localPart = Array.from(unquoted(written).normalize('NFC'), caseFolded).join('').normalize('NFC');
  if (localPart === '')
    throw malformed('local_part_missing', 'There is nothing before the @. Send an address such as ada@mail.acme.com.');
  const octets = Buffer.byteLength(localPart);
  if (octets > localPartLimit)
    throw malformed(
      'local_part_too_long',
      `The part before the @ has ${octets} octets; ${localPartLimit} is the most (RFC 5321 section 4.5.3.1.1).`,
    );
  if (!dotString.test(localPart) || unprintable.test(localPart) || /^\p{M}/u.test(localPart))
    throw malformed(
      'local_part_syntax',
      `${quoted(written)} cannot stand before the @: letters, digits and !#$%&'*+-/=?^_\`{|}~ may, and single dots between them (RFC 5321 section 4.1.2).`,
    );
  return localPart;
}

/**
 * The full case folding of Unicode (CaseFolding.txt) of one character, which the language lacks: Postfix folds so what it looks up,
 * and in lower case alone `STRASSE` and `Straße` would differ here and be one address there.
 */
function caseFolded(character: string): string {
  if (character === 'ı') return character;
  if (/\p{Script=Cherokee}/u.test(character)) return character.toUpperCase();
  return character.toLowerCase().toUpperCase().toLowerCase();
}

/**
 * A quoted string that needs no quotes is the same local part as without them. One that needs them is refused later: RFC 5321
 * section 4.1.2 tells a host that takes mail to define no such mailbox.
 */
const unquoted = (written: string): string =>
  /^"(?:[^"\\]|\\.)*"$/su.test(written) ? written.slice(1, -1).replace(/\\(.)/gsu, '$1') : written;

function canonicalDomain(written: string): string {
  if (written.replace(/\.$/, '').toLowerCase() === sharedDomain) return sharedDomain;
  try {
    return parseDomainName(written).name;
  } catch (error) {
    if (!(error instanceof NameRefused)) throw error;
    throw new AddressRefused(error.code, error.reason, error.message);
  }
}

/** What the local parts of a team end with on the shared domain: `-abc123` for `team_abc123`. */
export const suffixOf = (team: string): string => `-${team.slice(team.indexOf('_') + 1)}`;

const quoted = (text: string): string => `"${text.length > 80 ? `${text.slice(0, 80)}…` : text}"`;
