import { openPool } from '@app/database';
import type { Pool } from 'pg';

/** Opens a pool of one connection on which every statement after the first `statements` fails, as after a kill. */
export function dyingPool(url: string, statements: number): Pool {
  const pool = openPool(url, 1);
  let left = statements;
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    Object.assign(client, {
      query: (...args: unknown[]) => {
        if (left-- > 0) return query(...args);
        throw new Error('killed');
      },
    });
  });
  return pool;
}
