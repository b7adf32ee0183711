import { TryBudget } from './try-budget';

const none = () => undefined;

it('gives as many places as there are, and then the free ones to those that wait longest', () => {
  const budget = new TryBudget({ steady: 2, troubled: 1, down: 1, all: 9 });
  const places = [budget.take('steady', none), budget.take('steady', none)];
  const told: string[] = [];
  expect(budget.take('steady', () => told.push('first'))).toBeUndefined();
  expect(budget.take('steady', () => told.push('second'))).toBeUndefined();
  const steal = () => (told.push('taken'), void budget.take('steady', none));
  expect(budget.take('steady', steal)).toBeUndefined();
  places[0]!.free();
  places[0]!.free();
  // Those that are told and take nothing leave the place to the next.
  expect(told).toEqual(['first', 'second', 'taken']);
  expect(budget.underWay).toBe(2);
});

it('keeps the places of steady endpoints from troubled ones', () => {
  const budget = new TryBudget({ steady: 2, troubled: 1, down: 1, all: 9 });
  expect(budget.take('troubled', none)).toBeDefined();
  expect(budget.take('troubled', none)).toBeUndefined();
  expect(budget.take('steady', none)).toBeDefined();
});

it('keeps the places of those that are slow from those that are down', () => {
  const budget = new TryBudget({ steady: 1, troubled: 1, down: 1, all: 9 });
  const down = budget.take('down', none)!;
  // It is slow, as it was before.
  down.becomeSlow();
  expect(budget.take('down', none)).toBeUndefined();
  expect(budget.take('troubled', none)).toBeDefined();
  down.free();
  expect(budget.take('down', none)).toBeDefined();
});

it('gives the place of a slow try to another one', () => {
  const budget = new TryBudget({ steady: 1, troubled: 1, down: 1, all: 9 });
  const slow = budget.take('steady', none)!;
  let told = 0;
  budget.take('steady', () => told++);
  slow.becomeSlow();
  slow.becomeSlow();
  expect(told).toBe(1);
  expect(budget.take('steady', none)).toBeDefined();
  // It counts among the others until it ends.
  expect(budget.take('troubled', none)).toBeUndefined();
  slow.free();
  slow.becomeSlow();
  expect(budget.take('troubled', none)).toBeDefined();
  expect(budget.underWay).toBe(2);
});

it('bounds all together', () => {
  const budget = new TryBudget({ steady: 1, troubled: 1, down: 1, all: 2 });
  for (let i = 0; i < 2; i++) budget.take('steady', none)!.becomeSlow();
  expect(budget.take('steady', none)).toBeUndefined();
});
