import { Global, Module, type DynamicModule, type OnApplicationShutdown, Inject } from '@nestjs/common';
import { Pool } from 'pg';
import { migrate, type Migration } from './migrate';

export interface DatabaseOptions {
  readonly url: string;
  /** What the app's libs need of the schema. */
  readonly migrations: readonly Migration[];
  /** Largest number of connections of this process. */
  readonly connections?: number;
}

/** The one pool of a process, over a schema that is up to date. */
@Global()
@Module({})
export class DatabaseModule implements OnApplicationShutdown {
  constructor(@Inject(Pool) private readonly pool: Pool) {}

  static forRoot({ url, migrations, connections = 16 }: DatabaseOptions): DynamicModule {
    return {
      module: DatabaseModule,
      providers: [
        {
          provide: Pool,
          useFactory: async () => {
            await migrate(url, migrations);
            return openPool(url, connections);
          },
        },
      ],
      exports: [Pool],
    };
  }

  async onApplicationShutdown(): Promise<void> {
    await this.pool.end();
  }
}

/**
 * The server ends a statement that takes longer than `statementTimeoutMs` (SQLSTATE 57014), and what it has done is undone:
 * one that waits for a lock for ever would hold all that waits for its connection, such as the appends of a process.
 */
export function openPool(url: string, connections = 16, statementTimeoutMs = 30_000): Pool {
  const pool = new Pool({
    ...{ connectionString: url, max: connections, connectionTimeoutMillis: 10_000 },
    statement_timeout: statementTimeoutMs,
  });
  // An idle connection that dies is replaced at the next query, which reports its own error.
  pool.on('error', () => undefined);
  return pool;
}
