import { setTimeout as delay } from 'node:timers/promises';
import { AppScope, currentApp, ofEachApp } from './app-scope';

const [one, other] = [new AppScope('one'), new AppScope('other')];

it('follows what an app begins: promises, timers and calls back', async () => {
  const names = await Promise.all(
    [one, other].map((scope) =>
      scope.run(async () => {
        await delay(1);
        return new Promise((done) => setTimeout(() => setImmediate(() => done(currentApp())), 1));
      }),
    ),
  );
  expect(names).toEqual(['one', 'other']);
  expect(currentApp()).toBeUndefined();
});

it('keeps a value of each app, and one of a process that runs a single app', () => {
  let made = 0;
  const numbers = ofEachApp(() => [++made]);
  for (const scope of [one, other, one]) scope.run(() => numbers().push(0));
  numbers().push(9);
  expect([one.run(numbers), other.run(numbers), numbers()]).toEqual([
    [1, 0, 0],
    [2, 0],
    [3, 9],
  ]);
});

it('makes the value anew where it could not be made', () => {
  const values = [0, 1];
  const value = ofEachApp(() => values.shift() || fail());
  expect(() => one.run(value)).toThrow('not yet');
  expect(one.run(value)).toBe(1);
});

function fail(): never {
  throw new Error('not yet');
}
