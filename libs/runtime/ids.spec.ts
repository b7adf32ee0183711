import { newId, timeOfId } from './ids';

const digits = '0123456789abcdefghijklmnopqrstuvwxyz';

it('makes ids that sort by time, and none twice', () => {
  const ids = Array.from({ length: 1_000 }, (_, i) => newId('mdom', 1_776_247_200_000 + i));
  expect([...ids].sort()).toEqual(ids);
  expect(timeOfId(ids[7]!)).toBe(1_776_247_200_007);
  const atOnce = Array.from({ length: 10_000 }, () => newId('req', 0));
  expect(new Set(atOnce).size).toBe(atOnce.length);
  for (const id of atOnce) expect(id).toMatch(/^req_cl0{9}[0-9a-z]{16}$/);
});

it('makes each digit as likely as any other', () => {
  const counts = new Map<string, number>();
  const ids = 40_000;
  for (let i = 0; i < ids; i++)
    for (const digit of newId('req').slice(-16)) counts.set(digit, (counts.get(digit) ?? 0) + 1);
  const expected = (ids * 16) / digits.length;
  // Within six standard deviations, which are 4.4 %. An octet taken modulo 36 would make four digits 13 % more likely.
  for (const digit of digits) expect(Math.abs(counts.get(digit)! / expected - 1)).toBeLessThan(0.045);
});
