import { MailboxRuleBroken } from '@app/mailbox';
import type { Pool } from 'pg';
import { IdempotencyKeys } from './idempotency.service';

describe('a creation that fails', () => {
  const broken = new Error('the creation failed');
  const refused = Object.assign(Object.create(MailboxRuleBroken.prototype) as MailboxRuleBroken, {
    message: 'refused',
  });

  it.each([
    ['an unknown outcome', broken],
    ['a refusal', refused],
  ])('throws its own error when the claim cannot be released: %s', async (_, error) => {
    const query = jest
      .fn()
      .mockResolvedValueOnce({ rows: [{ id: 'mdom_1', until: 'now' }] })
      .mockRejectedValue(new Error('the connection is gone'));
    const keys = new IdempotencyKeys({ query } as unknown as Pool);
    const wish = {
      team: 'team_1',
      operation: 'addDomain',
      key: 'k',
      body: {},
      requestId: 'req_1',
      id: 'mdom_1',
      withinMs: 1_000,
    } as const;
    await expect(keys.once(wish, () => Promise.reject(error))).rejects.toBe(error);
    expect(query).toHaveBeenCalledTimes(2);
  });
});
