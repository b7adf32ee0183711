import {
  allowedMs,
  excessOf,
  longest,
  ofText,
  readersOf,
  slowdown,
  slownessOf,
  type Reading,
} from './support/bounded-time';

let kept = 0;
/** Takes as many steps as it is told. */
const steps = (count: number) => {
  for (let i = 0; i < count; i++) kept = (kept + i) | 0;
};
const of =
  (run: (octets: number) => unknown) =>
  (octets: number): Reading => ({ octets, run: () => run(octets), allowedMs });
const untilMs = (ms: number) => {
  const before = process.threadCpuUsage();
  for (;;) {
    steps(1_000);
    const { user, system } = process.threadCpuUsage(before);
    if (user + system >= ms * 1_000) return;
  }
};

describe('the time of a reader', () => {
  it.each<[string, (octets: number) => unknown]>([
    ['n²/4 steps', (n) => steps(n ** 2 / 4)],
    ['n²/4 steps, beside linear work', (n) => (steps(40 * n), steps(n ** 2 / 4))],
    ['repetitions that overlap', (n) => /\s+$/.test(`${' '.repeat(n)}!`)],
    ['n²/4 steps after a promise', (n) => Promise.resolve().then(() => steps(n ** 2 / 4))],
  ])('is too long where it grows as %s', async (_how, run) => {
    expect(await slownessOf(of(run))).toMatch(/^\d+ octets take /);
    expect(await slownessOf(of(run), longest / 2)).toMatch(/^\d+ octets take /);
  });

  it('is too long where it is linear and twice what is allowed', async () => {
    const msFor = 2 * allowedMs * (await slowdown());
    const slow = of((octets) => untilMs((msFor * octets) / longest));
    expect(await slownessOf(slow)).toMatch(/ octets take .* which may be /);
    expect(await excessOf(slow(longest))).toMatch(/ octets take .* which may be /);
  });

  it.each<[string, (octets: number) => unknown]>([
    ['n steps', (n) => steps(n)],
    ['hundreds of steps for each octet', (n) => steps(200 * n)],
    ['a sorted list', (n) => Array.from({ length: n }, (_, i) => String((i * 7_919) % n)).sort()],
    ['the same for every length', () => steps(1_000_000)],
  ])('is right where it takes %s', async (_how, run) => expect(await slownessOf(of(run))).toBeUndefined());
});

describe('a usual run', () => {
  const names = Array.from({ length: 13 }, (_, i) => `reader ${i}`);
  const readers = Object.fromEntries(names.map((name) => [name, ofText(() => undefined)]));
  const share = 6;
  const texts = Array.from({ length: 20 }, (_, i) => i);
  const turns = Array.from({ length: share }, (_, i) => 4_711 + i);
  const pairsOf = (turn: number) =>
    texts.flatMap((text) => Object.keys(readersOf(readers, text, share, turn)).map((name) => `${name}, text ${text}`));

  (process.env.WHOLE ? it.skip : it)(
    'gives each reader several texts, and as many runs as there are shares give all',
    () => {
      for (const turn of turns)
        for (const name of names)
          expect(pairsOf(turn).filter((pair) => pair.startsWith(`${name},`)).length).toBeGreaterThanOrEqual(3);
      const all = names.flatMap((name) => texts.map((text) => `${name}, text ${text}`));
      expect(turns.flatMap(pairsOf).sort()).toEqual(all.sort());
    },
  );
});
