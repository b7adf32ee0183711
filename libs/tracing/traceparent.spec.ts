import { knownTraceparent } from './traceparent';

const good = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

it.each([
  [good, good],
  [good.replace(/01$/, '00'), good.replace(/01$/, '00')],
  [undefined, undefined],
  [null, undefined],
  ['', undefined],
  [good.toUpperCase(), undefined],
  [` ${good}`, undefined],
  [`${good}\n`, undefined],
  [good.replace(/^00/, '01'), undefined],
  [`00-${'0'.repeat(32)}-00f067aa0ba902b7-01`, undefined],
  [`00-4bf92f3577b34da6a3ce929d0e0e4736-${'0'.repeat(16)}-01`, undefined],
])('takes %j as %j', (text, known) => {
  expect(knownTraceparent(text)).toBe(known);
});
