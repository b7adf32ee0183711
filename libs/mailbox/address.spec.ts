import fc from 'fast-check';
import { anyCharacter } from '../../test/support/characters';
import { sample } from '../../test/support/sample';
import { parseAddress, suffixOf } from './address';
import { AddressRefused } from './errors';

const reasonOf = (input: string): string => {
  try {
    return `no refusal: ${parseAddress(input).address}`;
  } catch (error) {
    if (error instanceof AddressRefused) return error.reason;
    throw error;
  }
};

/** Makes a domain name of so many octets. */
const ofLength = (octets: number): string => `${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(octets - 137)}.acme.com`;

describe('an address', () => {
  it.each([
    ['ada@mail.acme.com', 'ada@mail.acme.com'],
    ['Ada.Lovelace+Bills@MAIL.Acme.com.', 'ada.lovelace+bills@mail.acme.com'],
    ["!#$%&'*+-/=?^_`{|}~@mail.acme.com", "!#$%&'*+-/=?^_`{|}~@mail.acme.com"],
    ['"ada.l"@mail.acme.com', 'ada.l@mail.acme.com'],
    ['"a\\da"@mail.acme.com', 'ada@mail.acme.com'],
    ['JOSÉ@mail.acme.com', 'josé@mail.acme.com'],
    ['jose\u0301@mail.acme.com', 'josé@mail.acme.com'],
    ['用户@例え.jp', '用户@xn--r8jz45g.jp'],
    ['Straße@mail.acme.com', 'strasse@mail.acme.com'],
    ['STRAẞE@mail.acme.com', 'strasse@mail.acme.com'],
    ['ΌΨΙΣ.όψις@mail.acme.com', 'όψισ.όψισ@mail.acme.com'],
    ['İıſ@mail.acme.com', 'i\u0307ıs@mail.acme.com'],
    ['ꭰᎠ@mail.acme.com', 'ᎠᎠ@mail.acme.com'],
    [`${'a'.repeat(64)}@mail.acme.com`, `${'a'.repeat(64)}@mail.acme.com`],
    ['ada-abc123@MyAgent.MX', 'ada-abc123@myagent.mx'],
  ])('%s is %s', (input, address) => {
    expect(parseAddress(input).address).toBe(address);
  });

  it.each([
    ['mail.acme.com', 'at_sign_missing'],
    ['@mail.acme.com', 'local_part_missing'],
    ['""@mail.acme.com', 'local_part_missing'],
    ['.ada@mail.acme.com', 'local_part_syntax'],
    ['ada.@mail.acme.com', 'local_part_syntax'],
    ['a..b@mail.acme.com', 'local_part_syntax'],
    ['ada lovelace@mail.acme.com', 'local_part_syntax'],
    ['"ada lovelace"@mail.acme.com', 'local_part_syntax'],
    ['ada@home@mail.acme.com', 'local_part_syntax'],
    ['Ada <ada@mail.acme.com', 'local_part_syntax'],
    ['ada\u0000@mail.acme.com', 'local_part_syntax'],
    ['ada\u200b@mail.acme.com', 'local_part_syntax'],
    ['ada\u00a0l@mail.acme.com', 'local_part_syntax'],
    ['ada\ud800@mail.acme.com', 'local_part_syntax'],
    ['\u0301ada@mail.acme.com', 'local_part_syntax'],
    [`${'a'.repeat(65)}@mail.acme.com`, 'local_part_too_long'],
    [`${'é'.repeat(33)}@mail.acme.com`, 'local_part_too_long'],
    [`${'a'.repeat(64)}@${'b.'.repeat(96)}acme.com`, 'address_too_long'],
    [`a${'\u0301\u0316'.repeat(500)}@mail.acme.com`, 'address_too_long'],
    ['ada@', 'hostname_syntax'],
    ['ada@[192.0.2.1]', 'ip_address'],
    ['ada@gmail.com', 'domain_reserved'],
    ['ada@x.myagent.mx', 'domain_reserved'],
  ])('%s is refused: %s', (input, reason) => {
    expect(reasonOf(input)).toBe(reason);
  });

  const atext = "letters, digits and !#$%&'*+-/=?^_`{|}~ may, and single dots between them (RFC 5321 section 4.1.2)";
  it.each([
    ['ada', '"ada" has no @. Send the whole address, such as ada@mail.acme.com.'],
    ['x'.repeat(80), `"${'x'.repeat(80)}" has no @. Send the whole address, such as ada@mail.acme.com.`],
    ['x'.repeat(1_000), `"${'x'.repeat(80)}…" has no @. Send the whole address, such as ada@mail.acme.com.`],
    [
      'x'.repeat(1_001),
      'The address has more than 1000 characters; 254 octets are the most (RFC 5321 section 4.5.3.1.3).',
    ],
    ['@mail.acme.com', 'There is nothing before the @. Send an address such as ada@mail.acme.com.'],
    ['a b@mail.acme.com', `"a b" cannot stand before the @: ${atext}.`],
    [
      `${'é'.repeat(33)}@mail.acme.com`,
      'The part before the @ has 66 octets; 64 is the most (RFC 5321 section 4.5.3.1.1).',
    ],
    [`${'a'.repeat(64)}@${ofLength(190)}`, 'The address has 255 octets; 254 is the most (RFC 5321 section 4.5.3.1.3).'],
  ])('a refusal says what is wrong, and what to send (%#)', (input, message) => {
    let refusal: unknown;
    try {
      parseAddress(input);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toMatchObject({ name: 'AddressRefused', code: 'invalid_parameter', message });
  });

  it('has 254 octets at most, and a domain that may end with a dot', () => {
    const longest = `${'a'.repeat(64)}@${ofLength(189)}`;
    expect(Buffer.byteLength(parseAddress(longest).address)).toBe(254);
    expect(parseAddress('ada-abc123@myagent.mx.')).toMatchObject({ domain: 'myagent.mx' });
  });

  it('is its own canonical form, and refused or canonical whatever is sent', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'grapheme' }), fc.string({ unit: anyCharacter })), (localPart) => {
        let address: string;
        try {
          ({ address } = parseAddress(`${localPart}@mail.acme.com`));
        } catch (error) {
          expect(error).toBeInstanceOf(AddressRefused);
          return;
        }
        expect(parseAddress(address).address).toBe(address);
        expect(address).not.toMatch(/\s/);
      }),
      { numRuns: sample(500, 2_000) },
    );
  });

  it('of a team on the shared domain ends with what is public of the team', () => {
    expect(suffixOf('team_abc123')).toBe('-abc123');
  });
});
