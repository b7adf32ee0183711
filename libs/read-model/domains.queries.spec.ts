import type { Pool } from 'pg';
import { DomainsReadModel } from './domains.queries';

it('gives a domain to its own team alone, also where another one asks for it at the same time', async () => {
  const asked: unknown[][] = [];
  const rows = [
    { id: 'mdom_1', team: 'team_a' },
    { id: 'mdom_2', team: 'team_b' },
  ];
  const query = ({ values }: { values: [string[], string[]] }) => {
    asked.push(values);
    const [ids, teams] = values;
    return Promise.resolve({ rows: rows.filter(({ id, team }) => ids.includes(id) && teams.includes(team)) });
  };
  const domains = new DomainsReadModel({ query } as unknown as Pool);
  const wanted = [
    ['mdom_1', 'team_a'],
    ['mdom_1', 'team_b'],
    ['mdom_2', 'team_a'],
    ['mdom_2', 'team_b'],
  ] as const;
  expect(await Promise.all(wanted.map(([id, team]) => domains.find(id, team)))).toEqual([
    rows[0],
    undefined,
    undefined,
    rows[1],
  ]);
  expect(asked).toHaveLength(1);
});
