import { setTimeout as sleep } from 'node:timers/promises';
import { openClient } from '@app/database';
import { numbers } from './numbers';

/** Shortest and longest time between two terminations, in milliseconds. */
const pauses = { leastMs: 300, mostMs: 2_500 };

/** Terminates every connection to some databases of one server again and again, at times that a seed determines. */
export class BackendStorm {
  /** The times of the terminations, in milliseconds since the epoch. */
  readonly ends: number[] = [];
  /** The number of connections that were terminated. */
  broken = 0;
  private readonly random: () => number;
  private readonly names: string[];

  /** @param urls of the databases. Connections of tests that run at the same time are not affected. */
  constructor(
    private readonly server: string,
    urls: readonly string[],
    readonly seed: number,
  ) {
    this.random = numbers(seed);
    this.names = urls.map((url) => new URL(url).pathname.slice(1));
  }

  async run(forMs: number): Promise<void> {
    const admin = await openClient({ connectionString: this.server });
    const until = Date.now() + forMs;
    while (Date.now() < until) {
      await sleep(pauses.leastMs + this.random() * (pauses.mostMs - pauses.leastMs));
      const { rows } = await admin.query<{ broken: number }>(
        `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))::int AS broken FROM pg_stat_activity
         WHERE datname = ANY ($1) AND pid <> pg_backend_pid()`,
        [this.names],
      );
      this.broken += rows[0]!.broken;
      this.ends.push(Date.now());
    }
    await admin.end();
  }

  /** Whether connections were terminated between two times, in milliseconds since the epoch. */
  hasHit(from: number, to: number): boolean {
    return this.ends.some((at) => at >= from && at <= to);
  }
}
