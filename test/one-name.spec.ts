import { startSystem, type ApiClient, type System } from './support/processes';

describe('two teams add the same name at the same instant', () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({ env: { SES_CALLS_PER_SECOND: '10000', RATE_LIMIT_PER_MINUTE: '1000000' } });
  }, 60_000);
  afterAll(() => system.end(), 30_000);

  it('a thousand times: exactly one of them gets it', async () => {
    const { api: first } = await system.team({ name: 'First' });
    const { api: second } = await system.team({ name: 'Second' });
    const wins = [0, 0];
    const round = async (number: number) => {
      const name = `n${number}.acme.com`;
      const add = async (team: ApiClient) => (await team.add(name)).status;
      // Who is sent first alternates, so that neither team is favoured.
      const [a, b] = number % 2 ? [first, second] : [second, first];
      const sent = await Promise.all([add(a), add(b)]);
      const statuses = number % 2 ? sent : sent.reverse();
      expect([...statuses].sort()).toEqual([201, 409]);
      wins[statuses.indexOf(201)]!++;
    };
    for (let from = 0; from < 1_000; from += 20)
      await Promise.all(Array.from({ length: 20 }, (_, i) => round(from + i)));
    console.log(`of 1,000 names the first team got ${wins[0]}, the second ${wins[1]}`);
    expect(wins[0]! + wins[1]!).toBe(1_000);
    expect(Math.min(...wins)).toBeGreaterThan(0);
  }, 240_000);
});
