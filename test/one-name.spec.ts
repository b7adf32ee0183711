import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { ApiClient, startSystem, type Answer, type System } from './support/processes';
import { sample } from './support/sample';

const rounds = sample(100, 1_000);

describe('of what two gateways are asked for at the same instant', () => {
  let system: System;
  let gateways: [number, number];
  beforeAll(async () => {
    system = await startSystem({ env: { SES_CALLS_PER_SECOND: '10000', RATE_LIMIT_PER_MINUTE: '1000000' } });
    gateways = [system.port, await system.another('gateway')];
  });
  afterAll(() => system.end());

  it(`one name is wanted by two teams, ${rounds} times: exactly one of them gets it`, async () => {
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
    for (let from = 0; from < rounds; from += 20)
      await Promise.all(Array.from({ length: 20 }, (_, i) => round(from + i)));
    console.log(`of ${rounds} names the teams got ${wins.join(' and ')}, the gateways ${gatewayWins.join(' and ')}`);
    expect(wins[0]! + wins[1]!).toBe(rounds);
    expect(Math.min(...wins, ...gatewayWins)).toBeGreaterThan(0);
  });

  it('a team gets as many domains as it may have, whichever gateway is killed, and its places back', async () => {
    const { id, key } = await system.team({ name: 'Third' });
    const quota = spawnSync(resolve(__dirname, '../bin/sendmux'), ['team', 'quota', id, '--domains', '10'], {
      encoding: 'utf8',
      env: system.settings,
    });
    expect(quota).toMatchObject({ status: 0, stdout: expect.stringMatching(/^domains: 0 of 10$/m) as string });
    const [first, second] = gateways.map((port) => new ApiClient(`http://127.0.0.1:${port}/api/v1`, key));
    let names = 0;
    const adds = (api: ApiClient) =>
      Array.from({ length: 40 }, () => api.add(`q${++names}.acme.com`).catch(() => undefined));
    const answers = [...adds(first!), ...adds(second!)];
    await Promise.race(answers);
    await system.kill('gateway');
    const got = (await Promise.all(answers)).filter((answer): answer is Answer => answer !== undefined);
    expect(got.filter(({ status }) => status === 201).length).toBeLessThanOrEqual(10);
    await system.start('gateway');
    // An add whose gateway was killed goes on by itself.
    const usage = async () =>
      ((await second!.call('GET', '/me')).body as { data: { usage: { domains: number } } }).data.usage.domains;
    while ((await usage()) < 10) await second!.add(`q${++names}.acme.com`);
    expect((await first!.add(`q${++names}.acme.com`)).body).toMatchObject({
      error: { code: 'limit_exceeded', current: 10, limit: 10 },
    });
    const held = await system.until('ten domains are there', async () => {
      const { data } = (await first!.list()).body as { data: { id: string }[] };
      return data.length === 10 ? data : undefined;
    });
    for (const domain of held.slice(0, 3)) expect((await second!.delete(domain.id)).status).toBe(200);
    const statuses = await Promise.all(adds(first!).map(async (answer) => (await answer)?.status));
    expect(statuses.filter((status) => status === 201)).toHaveLength(3);
    expect(statuses.filter((status) => status === 409)).toHaveLength(37);
  });
});
