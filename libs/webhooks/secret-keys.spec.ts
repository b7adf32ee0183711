import { randomBytes } from 'node:crypto';
import { SecretUnreadable } from '@app/secret-keys';
import { newSecret, SecretKeys } from './secret-keys';

const [old, recent] = [randomBytes(32), randomBytes(32)];
const keys = new SecretKeys(
  new Map([
    ['2', recent],
    ['1', old],
  ]),
);

describe('a secret', () => {
  it('is written as Standard Webhooks has it, and is never the same', () => {
    expect(newSecret()).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(new Set(Array.from({ length: 100 }, newSecret)).size).toBe(100);
  });

  it('is encrypted with the first key, and otherwise each time', () => {
    const sealed = [keys.seal('whk_a', 'whsec_x'), keys.seal('whk_a', 'whsec_x')] as const;
    expect(sealed.map(({ keyId }) => keyId)).toEqual(['2', '2']);
    expect(sealed[0].sealed).not.toEqual(sealed[1].sealed);
    for (const { sealed: octets, keyId } of sealed) {
      expect(octets.includes('whsec_')).toBe(false);
      expect(keys.open('whk_a', octets, keyId)).toBe('whsec_x');
    }
  });

  it('opens with an older key of the ring', () => {
    const { sealed, keyId } = new SecretKeys(new Map([['1', old]])).seal('whk_a', 'whsec_x');
    expect(keys.open('whk_a', sealed, keyId)).toBe('whsec_x');
  });

  it.each([
    ['changed', (sealed: Buffer) => keys.open('whk_a', flipped(sealed, 14), '2')],
    ['with another nonce', (sealed: Buffer) => keys.open('whk_a', flipped(sealed, 0), '2')],
    ['with another tag', (sealed: Buffer) => keys.open('whk_a', flipped(sealed, sealed.length - 1), '2')],
    ['with a shorter tag', (sealed: Buffer) => keys.open('whk_a', sealed.subarray(0, -1), '2')],
    ['cut to nothing', () => keys.open('whk_a', Buffer.alloc(0), '2')],
    ['of another webhook', (sealed: Buffer) => keys.open('whk_b', sealed, '2')],
    ['of another key', (sealed: Buffer) => keys.open('whk_a', sealed, '1')],
  ])('does not open where it is %s', (_how, open) => {
    expect(() => open(keys.seal('whk_a', 'whsec_x').sealed)).toThrow(SecretUnreadable);
  });

  it('does not open without its key, and the error says which one is missing', () => {
    const { sealed } = keys.seal('whk_a', 'whsec_x');
    expect(() => keys.open('whk_a', sealed, '3')).toThrow(/key "3", which WEBHOOK_SECRET_KEYS does not name/);
  });

  it('needs a key', () => expect(() => new SecretKeys(new Map())).toThrow(RangeError));
});

function flipped(octets: Buffer, at: number): Buffer {
  const copy = Buffer.from(octets);
  copy[at]! ^= 1;
  return copy;
}
