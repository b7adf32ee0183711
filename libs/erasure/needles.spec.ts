import { finder, needlesOf } from './needles';

const ada = finder([needlesOf('ada@mail.acme.com')]);
const accented = finder([needlesOf('zoë@xn--mnchen-3ya.de')]);
const base64 = (text: string) => Buffer.from(text).toString('base64');

describe('an address is found', () => {
  it.each([
    ['alone', 'ada@mail.acme.com'],
    ['in capitals', 'ADA@Mail.Acme.COM'],
    ['in JSON', '{"address":"ada@mail.acme.com","x":1}'],
    ['after an escape of JSON', String.raw`{"text":"To:\nada@mail.acme.com\n"}`],
    ['in a URL', '/mailboxes/availability?email=ada%40mail.acme.com&x'],
    ['after an escape of a URL', '?next=%3Femail%3Dada%40mail.acme.com'],
    ['at the end of a sentence', 'It went to ada@mail.acme.com.'],
    ['in angle brackets', 'Ada <ada@mail.acme.com>'],
    ['in hexadecimal digits', `\\x00${Buffer.from('ada@mail.acme.com').toString('hex')}`],
    ...['', 'x', 'xy', 'xyz'].flatMap((lead) => [
      [`in base64 after "${lead}"`, base64(`${lead}ada@mail.acme.com`)],
      [`in base64 after "${lead}", and before more`, base64(`${lead}ada@mail.acme.com and more`)],
    ]),
  ])('%s', (_how, text) => expect(ada(text)).toBe(true));

  it.each([
    ['with its domain in A-labels', 'zoë@xn--mnchen-3ya.de'],
    ['with its domain in letters', 'zoë@münchen.de'],
    ['decomposed', 'zoë@münchen.de'.normalize('NFD')],
    ['escaped in JSON', String.raw`{"a":"zo\u00eb@m\u00fcnchen.de"}`],
    ['escaped in JSON in a row as text', String.raw`"{""a"":""zo\\u00EB@m\\u00FCnchen.de""}"`],
    ['escaped in a URL', encodeURIComponent('zoë@münchen.de')],
    ['as octets', String.raw`zo\303\253@xn--mnchen-3ya.de`],
    ['in base64', base64('{"address":"zoë@münchen.de"}')],
  ])('%s', (_how, text) => expect(accented(text)).toBe(true));
});

describe('another address is not', () => {
  it.each(['nada@mail.acme.com', 'a.ada@mail.acme.com', 'ada@mail.acme.com.au', 'ada@mail.acme.community', 'ada@mail'])(
    '%s',
    (text) => expect(ada(text)).toBe(false),
  );
});
