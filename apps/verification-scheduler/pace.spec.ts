import { Pace } from './pace';

it('lets so many begin a second, whoever asks, and saves nothing up', async () => {
  const pace = new Pace(100);
  await pace.turn();
  await new Promise((later) => setTimeout(later, 200));
  const begin = performance.now();
  await Promise.all(Array.from({ length: 21 }, () => pace.turn()));
  expect(performance.now() - begin).toBeGreaterThan(195);
  expect(performance.now() - begin).toBeLessThan(600);
});
