import { openClient } from '@app/database';

const Machine = Date;

/**
 * The clock of everything in this Jest environment, and of one database. It stands still but for `move`, so that what
 * depends on the time depends on the test alone; timers, and `performance.now()`, go on.
 *
 * The database follows by a function `now()` of its own, which comes before that of PostgreSQL in its search path. It
 * goes on from where it was moved to, since waits and leases in tables end by it.
 */
export class MovedClock {
  private at = Machine.now();

  private constructor(private readonly database: string) {
    const instant = () => this.at;
    globalThis.Date = new Proxy(Machine, {
      construct: (target, given: unknown[], made) =>
        Reflect.construct(target, given.length > 0 ? given : [instant()], made) as Date,
      get: (target, name) => (name === 'now' ? instant : (Reflect.get(target, name) as unknown)),
    });
  }

  /** @param database the URL of a database to which nobody has connected yet. */
  static async of(database: string): Promise<MovedClock> {
    const name = new URL(database).pathname.slice(1);
    await run(
      database,
      `CREATE TABLE moved_clock (ahead interval NOT NULL);
       INSERT INTO moved_clock VALUES ('0');
       CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql STABLE
         AS 'SELECT pg_catalog.now() + (SELECT ahead FROM public.moved_clock)';
       ALTER DATABASE ${name} SET search_path = public, pg_catalog`,
    );
    return new MovedClock(database);
  }

  now(): number {
    return this.at;
  }

  /** @param ms milliseconds. */
  async moveDatabase(ms: number): Promise<void> {
    await run(this.database, `UPDATE moved_clock SET ahead = ahead + ${Math.round(ms)} * interval '1 ms'`);
  }

  /** @param ms milliseconds. */
  moveProcess(ms: number): void {
    this.at += ms;
  }

  /** Gives the process the time of the database, which has gone on. */
  async meet(): Promise<void> {
    const [row] = await run(this.database, 'SELECT extract(epoch FROM now())::float8 * 1000 AS ms');
    this.at = Math.max(this.at, Math.ceil(row!.ms as number));
  }

  stop(): void {
    globalThis.Date = Machine;
  }
}

async function run(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = await openClient({ connectionString: url });
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}
