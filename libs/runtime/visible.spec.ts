import fc from 'fast-check';
import { hidden, hostileText } from '../../test/support/hostile-texts';
import { visible, visibleJson } from './visible';

it('no character of any text that is shown is hidden, or begins another line', () => {
  fc.assert(fc.property(hostileText, (text) => expect(visible(text)).not.toMatch(hidden)));
});

it('JSON that is shown has nothing hidden, and is the same value', () => {
  const text = fc.oneof(hostileText, fc.constant('\ud800'));
  const document = fc.record({ text, list: fc.array(text), named: fc.dictionary(text, text) });
  fc.assert(
    fc.property(document, fc.constantFrom(undefined, 2), (value, indent) => {
      const shown = visibleJson(JSON.stringify(value, null, indent));
      expect(shown.replaceAll('\n', '')).not.toMatch(hidden);
      expect(JSON.parse(shown)).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
});

it('text of any script is shown as it is', () => {
  for (const text of ['Grüße, 東京 😀', '  two  words', 'عربي'])
    expect([visible(text), visibleJson(`"${text}"`)]).toEqual([text, `"${text}"`]);
});
