import fc from 'fast-check';
import { NameRefused, parseDomainName } from '@app/mail-records';
import { ask, casesOf, describeJudged, expectOnlyMeant } from '../support/judges';

interface Read {
  readonly ascii?: string;
  readonly unicode?: string;
  readonly error?: string;
}

/** Reasons of ours that are about syntax; the others refuse names that are well written. */
const aboutSyntax = ['idna_invalid', 'hostname_syntax', 'label_too_long', 'name_too_long'];

describeJudged('names, judged by idna', () => {
  it('have the same canonical form, or none', () => {
    const names = casesOf(anyName, 6_000);
    const said = ask<Read>('names.py', names);
    const judged = names.map((typed, i) => ({ typed, ...oursOf(typed), theirs: said[i]! }));
    const differing = judged.filter(({ ours, refused, theirs }) =>
      ours
        ? ours.ascii !== theirs.ascii || ours.unicode !== theirs.unicode
        : aboutSyntax.includes(refused!) && theirs.error === undefined,
    );
    expectOnlyMeant('Names, idna', judged.length, differing, [
      {
        reason:
          'Where one label is written from right to left, the rule for both directions holds for all of them (RFC 5893 section 2); idna looks at each label alone.',
        is: ({ ours, theirs }) => !ours && /[\p{Script=Hebrew}\p{Script=Arabic}]/u.test(theirs.unicode ?? ''),
      },
    ]);
  });
});

function oursOf(typed: string): { ours?: Read; refused?: string } {
  try {
    const { name, unicode } = parseDomainName(typed);
    return { ours: { ascii: name, unicode: unicode ?? name } };
  } catch (error) {
    if (error instanceof NameRefused) return { refused: error.reason };
    throw error;
  }
}

/** Letters, marks, digits and signs that every version of Unicode since 6.3 has, by the script of a label. */
const scripts = [
  'abcxyzABCXYZ019-ßäöüéñçøłßſŉﬁÅK',
  'αβγςσΣΩώἀϐ·͵',
  'абвгджйёѐіїԁҥЯ',
  'אבגדךםץ״׳0١',
  'ابتثىيهـلا٠١۰۱ۀپ',
  'अआकखनमरवषहािीु्\u200d\u200c१',
  'กขคงำะาเแ๑',
  'あいうアイウー・一二三々ヽ゛ｱ',
  '가나다한국ㄱ가',
  '中国日本語東京。．',
  'აბგႠ',
  'աբգև',
  'ⓐ①½™²™ªºﬀ㎏',
  '_-. \u00ad\u2060\ufe0f\u180e',
  '☃♥→😀',
  '\u0300\u0301\u0327\u064b\u0591\u093c\u3099',
];
const labelOf = (characters: string) =>
  fc.array(fc.constantFrom(...characters), { maxLength: 6 }).map((all) => all.join(''));
const anyLabel = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...scripts).chain(labelOf) },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constantFrom(...scripts), fc.constantFrom(...scripts)).chain(([a, b]) => labelOf(a + b)),
  },
  { weight: 1, arbitrary: fc.stringMatching(/^xn--[a-z0-9-]{1,10}$/) },
  { weight: 1, arbitrary: fc.stringMatching(/^[a-z0-9_-]{1,8}$/) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'a'.repeat(63),
      'a'.repeat(64),
      'ä'.repeat(56),
      'ä'.repeat(60),
      'xn--mnchen-3ya',
      'xn--strae-oqa',
    ),
  },
);
const anyName = fc
  .tuple(fc.array(anyLabel, { minLength: 1, maxLength: 2 }), fc.constantFrom('com', 'de', 'org', 'рф', 'jp'))
  .map(([labels, top]) => [...labels, top].join('.'))
  // Refused for what they are, before anybody looks at how they are written.
  .filter((name) => !/[@:/*\s]/u.test(name));
