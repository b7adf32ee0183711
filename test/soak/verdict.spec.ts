import { numbers } from '../support/numbers';
import { costVerdictOf, verdictOf, type Allowance, type Life } from './verdict';

const random = numbers(7);
const noise = (size: number) => size * (2 * random() - 1);
/** A measurement each ten seconds. */
const life = (minutes: number, value: (second: number) => number, from = 0): Life =>
  Array.from({ length: minutes * 6 }, (_, i) => ({ at: from + 10 * i, value: value(10 * i) }));
const allowance: Allowance = { least: 2, share: 0.1 };
const verdict = (...lives: Life[]) => verdictOf(lives, allowance, 120).is;

describe('a series that should stay', () => {
  it.each<[string, Life[]]>([
    ['is constant', [life(20, () => 50)]],
    ['is noisy', [life(20, () => 50 + noise(10))]],
    ['warms up, and stays', [life(20, (second) => 50 - 20 * Math.exp(-second / 60) + noise(0.5))]],
    [
      'warms up slowly, and stays in its second half',
      [life(30, (second) => Math.min(20 + second / 50, 36) + noise(0.2))],
    ],
    ['saws', [life(20, (second) => 40 + (second % 170) / 10)]],
    ['saws with one tooth that is just growing', [life(20, (second) => 40 + (second % 390) / 30)]],
    ['falls', [life(20, (second) => 50 - second / 40)]],
    ['has a peak while a fault lasts', [life(20, (second) => (second > 700 && second < 900 ? 500 : 50))]],
    ['has one measurement that is wrong', [life(20, (second) => (second === 1_190 ? 5_000 : 50))]],
    [
      'has another level after each restart',
      [life(8, () => 50 + noise(1)), life(8, () => 70 + noise(1), 500), life(8, () => 90 + noise(1), 1_000)],
    ],
    ['is zero', [life(20, () => 0)]],
    ['grows by less than counts', [life(20, (second) => 10 + second / 1_000)]],
  ])('is flat where it %s', (_, lives) => expect(verdict(...lives)).toBe('flat'));

  it.each<[string, Life[]]>([
    ['leaks', [life(20, (second) => 50 + second / 100)]],
    ['leaks slowly under noise', [life(120, (second) => 50 + second / 1_000 + noise(2))]],
    ['leaks beneath a saw', [life(30, (second) => 40 + (second % 170) / 40 + second / 50)]],
    [
      'leaks in each life, and begins anew',
      [0, 600, 1_200].map((from) => life(10, (second) => 50 + second / 50, from)),
    ],
    ['leaks after it has warmed up', [life(20, (second) => Math.min(second, 60) + second / 60)]],
    ['leaks by a step now and then', [life(20, (second) => 50 + 3 * Math.floor(second / 200))]],
    ['leaks faster and faster', [life(20, (second) => 50 + (second / 200) ** 2)]],
    ['begins at zero', [life(20, (second) => Math.floor(second / 120))]],
  ])('grows where it %s', (_, lives) => expect(verdict(...lives)).toBe('grows'));

  it('is too short where no life lasts beyond its warm-up', () => {
    expect(verdict(life(3, (second) => second))).toBe('too short');
    expect(verdict()).toBe('too short');
    expect(
      verdict(
        life(2, (second) => second),
        life(3, (second) => second, 200),
      ),
    ).toBe('too short');
  });

  it('says its level, and by how much it grew while it was looked at', () => {
    const found = verdictOf([life(20, (second) => 50 + second / 100)], allowance, 0);
    expect(found.level).toBeCloseTo(56, 0);
    expect(found.growth).toBeCloseTo(11.9, 1);
  });
});

describe('a series that is meant to grow', () => {
  const costs = (value: (added: number) => number) =>
    costVerdictOf(
      Array.from({ length: 100 }, (_, i) => ({ at: 7 * i, value: value(7 * i) })),
      { least: 20, share: 0.3 },
    );

  it('is flat where each addition costs the same', () => {
    expect(costs((added) => 1_000 + 3 * added + noise(20))).toMatchObject({ is: 'flat' });
    expect(costs((added) => 1_000 + 3 * added).level).toBeCloseTo(3);
    expect(costs(() => 1_000)).toMatchObject({ is: 'flat', growth: 0 });
  });

  it('grows where an addition costs more and more', () => {
    expect(costs((added) => added ** 2)).toMatchObject({ is: 'grows' });
    expect(costs((added) => added + 2 * Math.max(0, added - 350))).toMatchObject({ is: 'grows' });
  });

  it('is too short where too little was added', () => {
    expect(costVerdictOf([], { least: 1, share: 0 }).is).toBe('too short');
    expect(
      costVerdictOf(
        life(1, (second) => second),
        { least: 1, share: 0 },
      ).is,
    ).toBe('too short');
    expect(
      costVerdictOf(
        life(20, () => 1).map(({ value }) => ({ at: 5, value })),
        { least: 1, share: 0 },
      ).is,
    ).toBe('too short');
  });
});
