import { setTimeout as delay } from 'node:timers/promises';
import { MailboxRuleBroken } from '@app/mailbox';
import type { Pool } from 'pg';
import { IdempotencyKeys } from './idempotency.service';

describe('a creation that fails', () => {
  const broken = new Error('the creation failed');
  const refused = Object.assign(Object.create(MailboxRuleBroken.prototype) as MailboxRuleBroken, {
    message: 'refused',
  });

  const wish = {
    team: 'team_1',
    operation: 'addDomain',
    key: 'k',
    body: {},
    requestId: 'req_1',
    id: 'mdom_1',
    withinMs: 1_000,
  } as const;

  it.each([
    ['an unknown outcome', broken],
    ['a refusal', refused],
  ])('throws its own error when the claim cannot be released: %s', async (_, error) => {
    const query = jest
      .fn()
      .mockResolvedValueOnce({ rows: [{ id: 'mdom_1', until: 'now' }] })
      .mockRejectedValue(new Error('the connection is gone'));
    const keys = new IdempotencyKeys({ query } as unknown as Pool);
    await expect(keys.once(wish, () => Promise.reject(error))).rejects.toBe(error);
    expect(query).toHaveBeenCalledTimes(2);
    keys.onModuleDestroy();
  });

  it('frees its claim as soon as the database takes that, and asks no more then', async () => {
    const query = jest
      .fn()
      .mockResolvedValueOnce({ rows: [{ id: 'mdom_1', until: 'now' }] })
      .mockRejectedValueOnce(new Error('the connection is gone'))
      .mockRejectedValueOnce(new Error('the database starts'))
      .mockResolvedValue({ rows: [] });
    const keys = new IdempotencyKeys({ query } as unknown as Pool);
    await expect(keys.once(wish, () => Promise.reject(broken))).rejects.toBe(broken);
    while (query.mock.calls.length < 4) await delay(10);
    await delay(300);
    expect(query).toHaveBeenCalledTimes(4);
    expect(
      (query.mock.calls as [string, unknown[]][]).slice(1).map(([text]) => /SET claimed_until/.test(text)),
    ).toEqual([true, true, true]);
  });

  it('gives up to free its claim when the lease is over', async () => {
    const query = jest
      .fn()
      .mockResolvedValueOnce({ rows: [{ id: 'mdom_1', until: 'now' }] })
      .mockRejectedValue(new Error('the connection is gone'));
    const keys = new IdempotencyKeys({ query } as unknown as Pool);
    await expect(keys.once({ ...wish, withinMs: 100 }, () => Promise.reject(broken))).rejects.toBe(broken);
    await delay(400);
    const asked = query.mock.calls.length;
    // The next try would come within 400 ms.
    await delay(500);
    expect(query).toHaveBeenCalledTimes(asked);
  });
});
