import { randomBytes } from 'node:crypto';
import { decrypt, encrypt } from './cipher';

const key = randomBytes(32);
const octets = Buffer.from('ada@mail.acme.com');

describe('what is encrypted', () => {
  it('is another text each time, and decrypts to the same', () => {
    const [one, other] = [encrypt(key, 'mbx_a', octets), encrypt(key, 'mbx_a', octets)];
    expect(one).not.toEqual(other);
    for (const each of [one, other]) expect(decrypt(key, 'mbx_a', each)).toEqual(octets);
  });

  it.each([
    ['under another subject', (text: Buffer) => decrypt(key, 'mbx_b', text)],
    ['with another key', (text: Buffer) => decrypt(randomBytes(32), 'mbx_a', text)],
    ['where one bit differs', (text: Buffer) => decrypt(key, 'mbx_a', flipped(text, 15))],
    ['with a tag that is cut', (text: Buffer) => decrypt(key, 'mbx_a', text.subarray(0, -1))],
    ['of nothing', () => decrypt(key, 'mbx_a', Buffer.alloc(0))],
  ])('does not decrypt %s', (_how, open) => expect(() => open(encrypt(key, 'mbx_a', octets))).toThrow());
});

function flipped(text: Buffer, at: number): Buffer {
  const copy = Buffer.from(text);
  copy[at]! ^= 1;
  return copy;
}
