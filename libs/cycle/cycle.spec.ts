import * as fc from 'fast-check';
import { newId } from '@app/runtime';
import { dueSlots, slotCount, slotOf, youngAges, youngCycle } from './cycle';

const sixHours = 6 * 3_600_000;
const minute = 60_000;
const intervals = fc.integer({ min: 1_000, max: 7 * 24 * 3_600_000 });
const times = fc.integer({ min: 1_600_000_000_000, max: 4_000_000_000_000 });
const at = (now: number, interval: number, slot: number) => dueSlots(now, interval).find((due) => due.slot === slot)!;

it('gives a domain the same slot for ever', () => {
  expect([slotOf('mdom_a'), slotOf('mdom_b'), slotOf('mdom_c')]).toEqual([199, 129, 209]);
});

it('spreads domains evenly over the slots', () => {
  const counts = new Array<number>(slotCount).fill(0);
  for (let i = 0; i < 36_000; i++) counts[slotOf(newId('mdom', i))]! += 1;
  // Each slot is expected to have 100, with a standard deviation of 10.
  expect(Math.min(...counts)).toBeGreaterThan(50);
  expect(Math.max(...counts)).toBeLessThan(150);
});

it('makes slot s of a cycle due s minutes after its start when the interval is six hours', () => {
  const start = Date.UTC(2026, 10, 23, 12);
  expect(at(start, sixHours, 0)).toEqual({ slot: 0, cycle: start, dueAt: start });
  expect(at(start + 7 * minute - 1, sixHours, 7).cycle).toBe(start - sixHours);
  expect(at(start + 7 * minute, sixHours, 7)).toEqual({ slot: 7, cycle: start, dueAt: start + 7 * minute });
});

it('H24 counts in UTC, whatever the local clocks do', () => {
  const midnight = Date.UTC(2026, 3, 5);
  for (const hours of [0, 6, 12, 18, 24])
    expect(at(midnight + hours * 3_600_000, sixHours, 0).cycle % sixHours).toBe(0);
});

it('has every slot due exactly once in any stretch of one interval', () => {
  fc.assert(
    fc.property(times, intervals, (now, interval) => {
      const before = new Map(dueSlots(now, interval).map(({ slot, cycle }) => [slot, cycle]));
      const after = dueSlots(now + interval, interval);
      expect(after).toHaveLength(slotCount);
      const wrong = after.filter(
        ({ slot, cycle, dueAt }) => cycle - before.get(slot)! !== interval || dueAt <= now || dueAt > now + interval,
      );
      expect(wrong).toEqual([]);
    }),
  );
});

it('names a later cycle by a larger number, even across a change of the interval', () => {
  fc.assert(
    fc.property(times, intervals, intervals, (now, before, after) => {
      const old = at(now, before, 0).cycle;
      const later = at(now + Math.max(before, after) * 2, after, 0).cycle;
      expect(later).toBeGreaterThan(old);
    }),
  );
});

it('numbers the looks at a young domain between the cycles before and after them', () => {
  fc.assert(
    fc.property(times, intervals, fc.integer({ min: 1, max: youngAges.length }), (now, interval, turn) => {
      const cycle = at(now, interval, slotOf('mdom_a')).cycle;
      const number = youngCycle('mdom_a', now, interval, turn);
      expect(number).toBeGreaterThan(cycle);
      expect(number).toBeLessThan(cycle + interval);
    }),
  );
});

it('puts the longest due first', () => {
  const due = dueSlots(Date.UTC(2026, 10, 23, 13, 30), sixHours).map(({ dueAt }) => dueAt);
  expect(due).toEqual([...due].sort((a, b) => a - b));
});
