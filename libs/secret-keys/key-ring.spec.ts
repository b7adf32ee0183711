import { Logger } from '@nestjs/common';
import { KeyRing, SecretUnreadable } from './key-ring';

const key = (octet: number) => Buffer.alloc(32, octet);
const words = { setting: 'WEBHOOK_SECRET_KEYS', secret: 'secret' };

describe('a ring of keys whose setting changes', () => {
  it('encrypts with the key that is the first now, and opens by those that are there', () => {
    let given = new Map([['old', key(1)]]);
    const ring = new KeyRing(() => given, words);
    const before = ring.seal('row', Buffer.from('one'));
    given = new Map([
      ['new', key(2)],
      ['old', key(1)],
    ]);
    const after = ring.seal('row', Buffer.from('two'));
    expect([before.keyId, after.keyId, ring.newest, ring.ids]).toEqual(['old', 'new', 'new', ['new', 'old']]);
    for (const [{ sealed, keyId }, text] of [[before, 'one'] as const, [after, 'two'] as const])
      expect(ring.open('row', sealed, keyId).toString()).toBe(text);
    given = new Map([['new', key(2)]]);
    expect(() => ring.open('row', before.sealed, 'old')).toThrow(SecretUnreadable);
  });

  it('keeps its keys where another one has the id of one that it has, and alarms an operator', () => {
    const errors = jest.fn();
    Logger.overrideLogger({ error: errors, log: () => undefined, warn: () => undefined });
    let given = new Map([['1', key(1)]]);
    const ring = new KeyRing(() => given, words);
    given = new Map([['1', key(2)]]);
    const { sealed, keyId } = ring.seal('row', Buffer.from('text'));
    expect(ring.open('row', sealed, keyId).toString()).toBe('text');
    expect(new KeyRing(new Map([['1', key(1)]]), words).open('row', sealed, keyId).toString()).toBe('text');
    expect(errors).toHaveBeenCalledTimes(1);
    expect(JSON.stringify(errors.mock.calls)).toContain('has another key \\"1\\" than before: the last keys are used');
    Logger.overrideLogger(false);
  });
});
