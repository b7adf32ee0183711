import { Global, Module, type DynamicModule, type OnApplicationShutdown, Inject } from '@nestjs/common';
import { Pool } from 'pg';
import { openPool } from './connections';
import { migrate, type Migration } from './migrate';

export interface DatabaseOptions {
  readonly url: string;
  /** The migrations that the app's libs need. */
  readonly migrations: readonly Migration[];
  /** Largest number of connections of this process. */
  readonly connections?: number;
}

/** Provides the process's single pool, over a schema that is up to date. */
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
