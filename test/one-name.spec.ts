import { ApiClient, startSystem, type System } from './support/processes';

describe('two teams add the same name at the same instant', () => {
  let system: System;
  let gateways: [number, number];
  beforeAll(async () => {
    system = await startSystem({ env: { SES_CALLS_PER_SECOND: '10000', RATE_LIMIT_PER_MINUTE: '1000000' } });
    gateways = [system.port, await system.another('gateway')];
  });
  afterAll(() => system.end());

  it('a thousand times, each at another gateway: exactly one of them gets it', async () => {
    const keys = [(await system.team({ name: 'First' })).key, (await system.team({ name: 'Second' })).key];
    const at = (port: number) => keys.map((key) => new ApiClient(`http://127.0.0.1:${port}/api/v1`, key));
    const [here, there] = [at(gateways[0]), at(gateways[1])];
    const wins = [0, 0];
    const gatewayWins = [0, 0];
    const round = async (number: number) => {
      const name = `n${number}.acme.com`;
      const add = async (team: ApiClient) => (await team.add(name)).status;
      // The order of the teams and their gateways alternates, so that none has an advantage.
      const swapped = number % 4 < 2;
      const [first, second] = swapped ? [there[0]!, here[1]!] : [here[0]!, there[1]!];
      const [a, b] = number % 2 ? [first, second] : [second, first];
      const sent = await Promise.all([add(a), add(b)]);
      const statuses = number % 2 ? sent : sent.reverse();
      expect([...statuses].sort()).toEqual([201, 409]);
      const winner = statuses.indexOf(201);
      wins[winner]!++;
      gatewayWins[swapped ? 1 - winner : winner]!++;
    };
    for (let from = 0; from < 1_000; from += 20)
      await Promise.all(Array.from({ length: 20 }, (_, i) => round(from + i)));
    console.log(`of 1,000 names the teams got ${wins.join(' and ')}, the gateways ${gatewayWins.join(' and ')}`);
    expect(wins[0]! + wins[1]!).toBe(1_000);
    expect(Math.min(...wins, ...gatewayWins)).toBeGreaterThan(0);
  });
});
