import { backOffMs } from './back-off';

describe('backOffMs', () => {
  const setting = { baseMs: 200, capMs: 10_000 };

  it('doubles up to the cap', () => {
    const longest = [1, 2, 3, 6, 7, 5_000].map((failures) => backOffMs(setting, failures, () => 1));
    expect(longest).toEqual([200, 400, 800, 6_400, 10_000, 10_000]);
  });

  it('spreads over the upper half', () => {
    expect(backOffMs(setting, 3, () => 0)).toBe(400);
    const many = Array.from({ length: 200 }, () => backOffMs(setting, 3));
    expect(Math.min(...many)).toBeGreaterThanOrEqual(400);
    expect(Math.max(...many)).toBeLessThanOrEqual(800);
    expect(new Set(many).size).toBeGreaterThan(20);
  });
});
