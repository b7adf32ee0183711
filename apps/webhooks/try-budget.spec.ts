import { TryBudget } from './try-budget';

const none = () => undefined;

it('gives as many places as there are, and then the free ones to those that wait longest', () => {
  const budget = new TryBudget({ steady: 2, troubled: 1, all: 9 });
  const places = [budget.take(false, none), budget.take(false, none)];
  const told: string[] = [];
  expect(budget.take(false, () => told.push('first'))).toBeUndefined();
  expect(budget.take(false, () => told.push('second'))).toBeUndefined();
  const steal = () => (told.push('taken'), void budget.take(false, none));
  expect(budget.take(false, steal)).toBeUndefined();
  places[0]!.free();
  places[0]!.free();
  // Those that are told and take nothing leave the place to the next.
  expect(told).toEqual(['first', 'second', 'taken']);
  expect(budget.underWay).toBe(2);
});

it('keeps the places of steady endpoints from troubled ones', () => {
  const budget = new TryBudget({ steady: 2, troubled: 1, all: 9 });
  expect(budget.take(true, none)).toBeDefined();
  expect(budget.take(true, none)).toBeUndefined();
  expect(budget.take(false, none)).toBeDefined();
});

it('gives the place of a slow try to another one', () => {
  const budget = new TryBudget({ steady: 1, troubled: 1, all: 9 });
  const slow = budget.take(false, none)!;
  let told = 0;
  budget.take(false, () => told++);
  slow.becomeSlow();
  slow.becomeSlow();
  expect(told).toBe(1);
  expect(budget.take(false, none)).toBeDefined();
  // It counts among the others until it ends.
  expect(budget.take(true, none)).toBeUndefined();
  slow.free();
  slow.becomeSlow();
  expect(budget.take(true, none)).toBeDefined();
  expect(budget.underWay).toBe(2);
});

it('bounds all together', () => {
  const budget = new TryBudget({ steady: 1, troubled: 1, all: 2 });
  for (let i = 0; i < 2; i++) budget.take(false, none)!.becomeSlow();
  expect(budget.take(false, none)).toBeUndefined();
});
