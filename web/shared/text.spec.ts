import { count, cut, partsOf } from './text';

describe('texts from outside', () => {
  it('are split at what cannot be seen or changes the direction', () => {
    expect(partsOf('v=spf1 \u202e-all\u200b')).toEqual([
      { text: 'v=spf1 ' },
      { hidden: 'U+202E' },
      { text: '-all' },
      { hidden: 'U+200B' },
    ]);
    expect(partsOf('a\0\n\x7f')).toEqual([
      { text: 'a' },
      { hidden: 'U+0000' },
      { hidden: 'U+000A' },
      { hidden: 'U+007F' },
    ]);
    expect(partsOf('\ud800 \u{e0041}')).toEqual([{ hidden: 'U+D800' }, { text: ' ' }, { hidden: 'U+E0041' }]);
    expect(partsOf('')).toEqual([]);
    expect(partsOf('<b>münchen</b> 邮件')).toEqual([{ text: '<b>münchen</b> 邮件' }]);
  });

  it('are cut, and never inside of a character', () => {
    expect(cut('abc', 3)).toBe('abc');
    expect(cut('abcd', 3)).toBe('abc');
    expect(cut('ab😀', 3)).toBe('ab');
    expect(cut('a😀b', 3)).toBe('a😀');
  });
});

it('writes numbers with their nouns', () => {
  expect([count(1, 'mailbox', 'mailboxes'), count(0, 'domain'), count(12_000, 'record')]).toEqual([
    '1 mailbox',
    '0 domains',
    '12,000 records',
  ]);
});
