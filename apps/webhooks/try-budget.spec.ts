import { TryBudget } from './try-budget';

const none = () => undefined;

it('gives as many places as there are, and then the free ones to those that wait longest', () => {
  const budget = new TryBudget({ steady: 2, troubled: 1, down: 1, all: 9 });
  const places = [budget.take('steady', false, none), budget.take('steady', false, none)];
  const told: string[] = [];
  expect(budget.take('steady', false, () => told.push('first'))).toBeUndefined();
  expect(budget.take('steady', false, () => told.push('second'))).toBeUndefined();
  const steal = () => (told.push('taken'), void budget.take('steady', false, none));
  expect(budget.take('steady', false, steal)).toBeUndefined();
  places[0]!.free();
  places[0]!.free();
  // Those that are told and take nothing leave the place to the next.
  expect(told).toEqual(['first', 'second', 'taken']);
  expect(budget.underWay).toBe(2);
});

it('keeps the places of steady endpoints from troubled ones', () => {
  const budget = new TryBudget({ steady: 2, troubled: 1, down: 1, all: 9 });
  expect(budget.take('troubled', false, none)).toBeDefined();
  expect(budget.take('troubled', false, none)).toBeUndefined();
  expect(budget.take('steady', false, none)).toBeDefined();
});

it('keeps the places of those that are slow from those that are down', () => {
  const budget = new TryBudget({ steady: 1, troubled: 1, down: 1, all: 9 });
  const down = budget.take('down', false, none)!;
  // It is slow, as it was before.
  down.becomeSlow();
  expect(budget.take('down', false, none)).toBeUndefined();
  expect(budget.take('troubled', false, none)).toBeDefined();
  down.free();
  expect(budget.take('down', false, none)).toBeDefined();
});

it('keeps a quarter of the places for endpoints that have no try under way, and tells these first', () => {
  const budget = new TryBudget({ steady: 4, troubled: 1, down: 1, all: 9 });
  const places = [1, 2, 3].map(() => budget.take('steady', true, none)!);
  const told: string[] = [];
  expect(budget.take('steady', true, () => told.push('further'))).toBeUndefined();
  const first = budget.take('steady', false, none)!;
  expect(first).toBeDefined();
  expect(budget.take('steady', false, () => told.push('first'))).toBeUndefined();
  places[0]!.free();
  expect(told).toEqual(['first']);
  first.free();
  expect(told).toEqual(['first', 'further']);
});

it('gives the place of a slow try to another one', () => {
  const budget = new TryBudget({ steady: 1, troubled: 1, down: 1, all: 9 });
  const slow = budget.take('steady', false, none)!;
  let told = 0;
  budget.take('steady', false, () => told++);
  slow.becomeSlow();
  slow.becomeSlow();
  expect(told).toBe(1);
  expect(budget.take('steady', false, none)).toBeDefined();
  // It counts among the others until it ends.
  expect(budget.take('troubled', false, none)).toBeUndefined();
  slow.free();
  slow.becomeSlow();
  expect(budget.take('troubled', false, none)).toBeDefined();
  expect(budget.underWay).toBe(2);
});

it('bounds all together', () => {
  const budget = new TryBudget({ steady: 1, troubled: 1, down: 1, all: 2 });
  for (let i = 0; i < 2; i++) budget.take('steady', false, none)!.becomeSlow();
  expect(budget.take('steady', false, none)).toBeUndefined();
});
