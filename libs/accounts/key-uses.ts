import {
  Inject,
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { Pool } from 'pg';

/** The greatest age of `last_used_at`, in milliseconds. */
export const keyUsesEveryMs = 60_000;

/**
 * Gathers the times of the last uses of keys, and writes them now and then in one statement, so that a request costs no
 * write.
 */
@Injectable()
export class KeyUses implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(KeyUses.name);
  /** Milliseconds since the epoch, by the id of the key. */
  private uses = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(@Inject(Pool) private readonly pool: Pool) {}

  note(keyId: string, at = Date.now()): void {
    this.uses.set(keyId, at);
  }

  /** Writes the gathered uses. Uses that cannot be written are kept for the next time. Never rejects. */
  async flush(): Promise<void> {
    if (this.uses.size === 0) return;
    const uses = this.uses;
    this.uses = new Map();
    try {
      // Keeps the latest time, since another process may have written a later one. The rows are locked in the order of
      // the ids, so that two processes cannot deadlock.
      await this.pool.query(
        `UPDATE api_keys AS held SET last_used_at = greatest(held.last_used_at, used.at)
          FROM (
            SELECT id, at FROM api_keys JOIN unnest($1::text[], $2::timestamptz[]) AS uses (id, at) USING (id)
            ORDER BY id FOR UPDATE OF api_keys
          ) AS used
          WHERE held.id = used.id`,
        [[...uses.keys()], [...uses.values()].map((at) => new Date(at))],
      );
    } catch (error) {
      this.uses = new Map([...uses, ...this.uses]);
      this.logger.warn(`The last use of keys will be written later: ${(error as Error).message}`);
    }
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.flush(), keyUsesEveryMs).unref();
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.flush();
  }
}
