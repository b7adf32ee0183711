import { createHash, randomInt } from 'node:crypto';
import { newApiKey, newInvitationToken, newSessionToken, newSetupToken } from '@app/runtime';
import type { Pool } from 'pg';
import { Accounts } from './accounts.service';
import { Invitations } from './invitations.service';
import { Sessions } from './sessions.service';
import { SetupLinks } from './setup-links.service';

type Query = { readonly text: string; readonly values: readonly unknown[] };

/** The look-ups of secrets, each with a maker of them. All get what a caller has sent, before anybody is known. */
const lookUps: Record<string, { make: () => string; find: (pool: Pool, secret: string) => Promise<unknown> }> = {
  'an API key': { make: newApiKey, find: (pool, key) => new Accounts(pool).authenticate(key) },
  'a session': { make: newSessionToken, find: (pool, token) => new Sessions(pool, new Accounts(pool)).resume(token) },
  'a setup link': { make: newSetupToken, find: (pool, token) => new SetupLinks(pool).find(token) },
  'an invitation': {
    make: newInvitationToken,
    find: (pool, token) => new Invitations(pool).accept(token).catch(() => undefined),
  },
};

/** Looks a secret up in a database that has none, and gives what was asked of it. */
async function asked(find: (pool: Pool, secret: string) => Promise<unknown>, secret: string): Promise<Query[]> {
  const queries: Query[] = [];
  const query = (given: string | Query, values: readonly unknown[] = []) => {
    queries.push(typeof given === 'string' ? { text: given, values } : given);
    return Promise.resolve({ rows: [], rowCount: 0 });
  };
  expect(await find({ query } as unknown as Pool, secret)).toBeUndefined();
  return queries;
}

/** Counts the octets at the beginning that two have in common: as long as a comparison that stops early goes on. */
const common = (one: Buffer, other: Buffer): number => {
  let count = 0;
  while (count < one.length && one[count] === other[count]) count++;
  return count;
};

describe.each(Object.entries(lookUps))('%s is looked up', (_, { make, find }) => {
  const secret = make();
  const guesses = ['', 'x', make(), secret, `${secret.slice(0, -1)}_`, `_${secret.slice(1)}`, secret.repeat(300)];

  it('by one statement with its SHA-256 as its one value, whatever it is', async () => {
    const [[first]] = await Promise.all([asked(find, secret)]);
    // Keys that are asked for in the same turn are looked up by one statement.
    const isOfMany = Array.isArray(first!.values[0]);
    expect(first!.text).toMatch(isOfMany ? /hash = ANY \([^)]*\$1/ : /hash = \$1/);
    for (const guess of guesses) {
      const expected = createHash('sha256').update(guess).digest();
      expect(await asked(find, guess)).toEqual([{ ...first, values: [isOfMany ? [expected] : expected] }]);
    }
  });

  it('so that a comparison that stops early says nothing of how near a guess is', async () => {
    const hash = async (text: string) => [(await asked(find, text))[0]!.values[0]].flat()[0] as Buffer;
    const stored = await hash(secret);
    // Of guesses in which one character alone is wrong, one in 256 has the first octet of the hash by chance.
    let total = 0;
    for (let i = 0; i < 300; i++) {
      const at = randomInt(secret.length);
      const guess = `${secret.slice(0, at)}${secret[at] === 'z' ? 'y' : 'z'}${secret.slice(at + 1)}`;
      total += common(stored, await hash(guess));
    }
    expect(total / 300).toBeLessThan(0.1);
  });
});
