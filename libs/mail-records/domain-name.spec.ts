import fc from 'fast-check';
import { sample } from '../../test/support/sample';
import { NameRefused, parseDomainName } from './domain-name';

const refusal = (input: string): NameRefused => {
  try {
    parseDomainName(input);
  } catch (error) {
    if (error instanceof NameRefused) return error;
    throw error;
  }
  throw new Error(`${input} was accepted`);
};

describe('names that are accepted', () => {
  it.each([
    ['A1', 'mail.acme.com', 'mail.acme.com', null],
    ['A2', 'Mail.ACME.com', 'mail.acme.com', null],
    ['A3', 'mail.acme.com.', 'mail.acme.com', null],
    ['A8', 'münchen.example.de', 'xn--mnchen-3ya.example.de', 'münchen.example.de'],
    ['A8', 'xn--mnchen-3ya.example.de', 'xn--mnchen-3ya.example.de', 'münchen.example.de'],
    ['A8', 'straße.de', 'xn--strae-oqa.de', 'straße.de'],
    ['A11', '日本語.jp', 'xn--wgv71a119e.jp', '日本語.jp'],
    ['A11', 'почта.рф', 'xn--80a1acny.xn--p1ai', 'почта.рф'],
    ['A11', 'восток.рф', 'xn--b1aqlaog.xn--p1ai', 'восток.рф'],
    ['A11', 'сос.рф', 'xn--n1afb.xn--p1ai', 'сос.рф'],
    ['A11', 'восток.com', 'xn--b1aqlaog.com', 'восток.com'],
    ['A11', '東京タワー.jp', 'xn--5ck2eqb538s34z.jp', '東京タワー.jp'],
    ['A11', '한국abc.kr', 'xn--abc-lt8lk11n.kr', '한국abc.kr'],
    ['A10', 'l·l.cat', 'xn--ll-0ea.cat', 'l·l.cat'],
    ['A3', '日本語。jp。', 'xn--wgv71a119e.jp', '日本語.jp'],
    ['A12', `${'a'.repeat(63)}.com`, `${'a'.repeat(63)}.com`, null],
    ['A16', 'acme.github.io', 'acme.github.io', null],
    ['A18', 'notgmail.com', 'notgmail.com', null],
    ['A21', 'mail.nobody-has-registered-this.com', 'mail.nobody-has-registered-this.com', null],
    ['LDH', 'r3---sn.acme.co.uk', 'r3---sn.acme.co.uk', null],
  ])('%s %s', (_row, input, name, unicode) => expect(parseDomainName(input)).toEqual({ name, unicode }));
});

describe('what is no hostname: 400', () => {
  it.each([
    ['A4', 'https://mail.acme.com/x', 'url', 'Send the hostname only: mail.acme.com'],
    ['A4', 'mail.acme.com/x', 'url', 'Send the hostname only: mail.acme.com'],
    ['A4', 'mail.acme.com:25', 'url', 'mail.acme.com'],
    ['A4', 'https://ada:secret@mail.acme.com:443/x', 'url', 'Send the hostname only: mail.acme.com'],
    ['A5', 'ada@acme.com', 'email_address', 'That is an address; did you mean acme.com?'],
    ['A6', 'acme', 'not_fully_qualified', 'not fully qualified'],
    ['A6', 'localhost', 'not_fully_qualified', 'not fully qualified'],
    ['A7', '192.0.2.1', 'ip_address', 'IP address'],
    ['A7', '[::1]', 'ip_address', 'IP address'],
    ['A7', '::1', 'ip_address', 'IP address'],
    ['A7', '1.2.3.4.', 'ip_address', 'IP address'],
    ['A7', '1.2.3', 'ip_address', 'IP address'],
    ['A7', '1.2.3.0x4', 'ip_address', 'IP address'],
    ['A10', 'xn--a.com', 'idna_invalid', 'IDNA2008'],
    ['A10', '😀.com', 'idna_invalid', 'IDNA2008'],
    ['A10', '-ç.org', 'idna_invalid', 'IDNA2008'],
    ['A10', 'ßä-.de', 'idna_invalid', 'IDNA2008'],
    ['A10', 'y0--é.jp', 'idna_invalid', 'IDNA2008'],
    ['A10', 'xn----6fa.org', 'idna_invalid', 'IDNA2008'],
    ['A10', 'a·b.com', 'idna_invalid', 'IDNA2008'],
    ['A10', 'ab・.com', 'idna_invalid', 'IDNA2008'],
    ['A10', 'aـb.com', 'idna_invalid', 'IDNA2008'],
    ['A10', '١۲.com', 'idna_invalid', 'IDNA2008'],
    ['A12', `${'a'.repeat(64)}.com`, 'label_too_long', '63'],
    ['A12', `${'abcdefghi.'.repeat(26)}com`, 'name_too_long', '253'],
    ['N1:', `${'ä'.repeat(1_000)}.com`, 'name_too_long', 'more than 1000 characters'],
    ['A12', `${'abcdefghi.'.repeat(21)}com`, 'name_too_long', 'no room for its DKIM records'],
    ['A14', '_foo.acme.com', 'hostname_syntax', '"_foo"'],
    ['A14', '-a.com', 'hostname_syntax', '"-a"'],
    ['A14', 'a-.com', 'hostname_syntax', '"a-"'],
    ['A14', 'a..com', 'hostname_syntax', 'empty label'],
    ['A14', 'a b.com', 'hostname_syntax', 'white space'],
    ['A14', 'acme.com..', 'hostname_syntax', 'empty label'],
    ['A20', '*.acme.com', 'wildcard', 'add each subdomain'],
  ])('%s %s', (_row, input, reason, hint) => {
    expect(refusal(input)).toMatchObject({ code: 'invalid_parameter', reason });
    expect(refusal(input).message.toLowerCase()).toContain(hint.toLowerCase());
  });
});

describe('hostnames that cannot be a mail domain of a customer: 422', () => {
  it.each([
    ['A11', 'аcme.com', 'domain_confusable'],
    ['A11', 'xn--cme-7cd.com', 'domain_confusable'],
    ['A11', 'сосо.com', 'domain_confusable'],
    ['A15', 'com', 'public_suffix'],
    ['A15', 'рф', 'public_suffix'],
    ['A15', '公司.cn', 'public_suffix'],
    ['A15', 'co.uk', 'public_suffix'],
    ['A16', 'github.io', 'public_suffix'],
    ['A18', 'sendmux.ai', 'domain_reserved'],
    ['A18', 'x.myagent.mx', 'domain_reserved'],
    ['A18', 'amazonses.com', 'domain_reserved'],
    ['A18', 'gmail.com', 'domain_reserved'],
    ...['local', 'test', 'example', 'invalid', 'onion', 'arpa', 'internal'].map((tld) => [
      'A19',
      `foo.${tld}`,
      'special_use',
    ]),
  ] as [string, string, string][])('%s %s', (_row, input, reason) => expect(refusal(input)).toMatchObject({ reason }));
});

describe('any text', () => {
  it('is refused as a NameRefused or comes out canonical, and stays so', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'grapheme' }), fc.domain(), fc.ipV6()), (input) => {
        let name: string;
        try {
          name = parseDomainName(input).name;
        } catch (error) {
          return error instanceof NameRefused;
        }
        return /^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(name) && name.length <= 253 && parseDomainName(name).name === name;
      }),
      { numRuns: sample(600, 2_000) },
    );
  });
});
