import { NameRefused, parseDomainName, parseHostname } from '@app/mail-records';
import { AddressRefused } from './errors';

/** The domain that all teams share. It is ours: no team can add or delete it. */
export const sharedDomain = 'myagent.mx';

/**
 * Octets of a local part, and of an address (RFC 5321 section 4.5.3.1; an address has 254, since a path has 256 with
 * its brackets).
 */
const localPartLimit = 64;
const addressLimit = 254;
/** Characters of what is looked at: no form of an address, in whatever script, comes near it. */
const inputLimit = 1_000;

export interface Address {
  /**
   * The canonical address: NFC and case folded, with the domain in A-labels. Two addresses that reach the same mailbox
   * are equal.
   */
  readonly address: string;
  readonly localPart: string;
  /** The domain's canonical name, or `sharedDomain`. */
  readonly domain: string;
}

/**
 * A Dot-string of `atext` (RFC 5322 section 3.2.3), with the printable characters beyond ASCII that RFC 6531 section
 * 3.3 adds.
 */
const dotString = /^[\w!#$%&'*+/=?^`{|}~\u0080-\u{10ffff}-]+(\.[\w!#$%&'*+/=?^`{|}~\u0080-\u{10ffff}-]+)*$/u;

/** Control, unassigned and private-use characters, and spaces of every kind. */
const unprintable = /[\p{C}\p{Z}]/u;

const malformed = (reason: string, message: string) => new AddressRefused('invalid_parameter', reason, message);

/**
 * Gives the canonical form of a mailbox's address. Two mailboxes cannot differ by case alone, which RFC 5321 section
 * 2.4 leaves to the receiving host, nor by the composition of an accented letter.
 *
 * @throws {AddressRefused} saying what to send instead.
 */
export function parseAddress(input: string): Address {
  return readAddress(input, canonicalDomain);
}

/**
 * Gives the canonical form of a sender that a rule names: an address anywhere, or a hostname, which stands for all
 * addresses at it and may be written `*@partner.com`.
 *
 * @throws {AddressRefused} `invalid_parameter`, saying what to send instead.
 */
export function parseSender(input: string): string {
  const at = input.lastIndexOf('@');
  const isHostname = at < 0 || input.slice(0, at) === '*';
  return isHostname ? canonicalHostname(input.slice(at + 1)) : readAddress(input, canonicalHostname).address;
}

function readAddress(input: string, readDomain: (written: string) => string): Address {
  if (input.length > inputLimit)
    throw malformed(
      'address_too_long',
      `The address has more than ${inputLimit} characters; ${addressLimit} octets are the most (RFC 5321 section 4.5.3.1.3).`,
    );
  const at = input.lastIndexOf('@');
  if (at < 0)
    throw malformed('at_sign_missing', `${quoted(input)} has no @. Send the whole address, such as ada@mail.acme.com.`);
  const localPart = canonicalLocalPart(input.slice(0, at));
  const domain = readDomain(input.slice(at + 1));
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
 * Applies the full case folding of Unicode (CaseFolding.txt) to one character, which JavaScript has no function for.
 * Postfix folds what it looks up in this way. With lower case alone `STRASSE` and `Straße` would differ here and be one
 * address there.
 */
function caseFolded(character: string): string {
  if (character === 'ı') return character;
  if (/\p{Script=Cherokee}/u.test(character)) return character.toUpperCase();
  return character.toLowerCase().toUpperCase().toLowerCase();
}

/**
 * Removes quotes that are not needed, since both forms are the same local part. A local part that needs quotes is
 * refused later: RFC 5321 section 4.1.2 tells hosts that receive mail to define no such mailbox.
 */
const unquoted = (written: string): string =>
  /^"(?:[^"\\]|\\.)*"$/su.test(written) ? written.slice(1, -1).replace(/\\(.)/gsu, '$1') : written;

function canonicalDomain(written: string): string {
  if (written.replace(/\.$/, '').toLowerCase() === sharedDomain) return sharedDomain;
  return refusingAddresses(() => parseDomainName(written).name);
}

const canonicalHostname = (written: string): string => refusingAddresses(() => parseHostname(written));

/** Turns the refusal of a name into that of the address that has it. */
function refusingAddresses(read: () => string): string {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof NameRefused)) throw error;
    throw new AddressRefused(error.code, error.reason, error.message);
  }
}

/** Gives the suffix of a team's local parts on the shared domain: `-abc123` for `team_abc123`. */
export const suffixOf = (team: string): string => `-${team.slice(team.indexOf('_') + 1)}`;

const quoted = (text: string): string => `"${text.length > 80 ? `${text.slice(0, 80)}…` : text}"`;
