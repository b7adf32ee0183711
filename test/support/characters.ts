import fc from 'fast-check';

/** Code points that are no characters (D800 to DFFF). */
const surrogates = { first: 0xd800, count: 0x800 };

/**
 * Any character of Unicode, as `unit: 'binary'` of fast-check has them. That one makes a map of all of them, more than
 * a million, in each suite that uses it, which takes longer than what most suites do.
 */
export const anyCharacter: fc.Arbitrary<string> = fc.nat({ max: 0x10_ffff - surrogates.count }).map(
  (n) => String.fromCodePoint(n < surrogates.first ? n : n + surrogates.count),
  (character) => {
    const point = typeof character === 'string' ? character.codePointAt(0) : undefined;
    if (point === undefined || String.fromCodePoint(point) !== character) throw new Error('This is no character.');
    return point < surrogates.first ? point : point - surrogates.count;
  },
);
