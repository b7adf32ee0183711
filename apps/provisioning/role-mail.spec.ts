import { RoleMail } from './role-mail';

const owners = new Map([['team_a', ['ada@acme.com', 'Ops@acme.com']]]);
const teams = new Map([
  ['mdom_1', 'team_a'],
  ['mdom_2', 'team_without_owners'],
]);

it.each([
  ['platform', [], 'done'],
  ['owners', [['mdom_1', 'ada@acme.com,Ops@acme.com']], { retryInMs: 300_000 }],
] as const)('R8: the mail of roles goes to %s', async (ROLE_MAIL, expected, outcome) => {
  const told: [string, [string, string][]][] = [];
  const roleMail = new RoleMail(
    { ownersOfTeams: () => Promise.resolve(owners) },
    { teams: () => Promise.resolve(teams) },
    {
      replaceRoles: (postmaster, addresses) => {
        told.push([postmaster, [...addresses]]);
        return Promise.resolve();
      },
    },
    { ROLE_MAIL, POSTMASTER_ADDRESS: 'pm@platform.example' },
  );
  const done = await roleMail.update();
  if (outcome === 'done') expect(done).toBe('done');
  else expect(done).toMatchObject(outcome);
  expect(told).toEqual([['pm@platform.example', expected]]);
});
