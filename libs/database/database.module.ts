import { Global, Inject, Logger, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { Pool } from 'pg';
import { measureClock } from './clock';
import { openPool, type DatabaseUrls } from './connections';
import { checkPooled } from './routes';
import { checkSchema, type Migration } from './schema';

export interface DatabaseOptions extends DatabaseUrls {
  /** The migrations that the app's libs need. */
  readonly migrations: readonly Migration[];
  /** Largest number of connections of this process. */
  readonly connections?: number;
}

/** Provides the process's single pool, over tables that this release works on. Nothing here changes them. */
@Global()
@Module({})
export class DatabaseModule implements OnApplicationShutdown {
  constructor(@Inject(Pool) private readonly pool: Pool) {
    measureClock(pool);
  }

  static forRoot({ migrations, connections = 16, ...urls }: DatabaseOptions): DynamicModule {
    return {
      module: DatabaseModule,
      providers: [
        {
          provide: Pool,
          useFactory: async () => {
            const onSchema = await checkSchema(urls, migrations);
            const { directUrl } = urls;
            const onPooler = directUrl && (await checkPooled({ ...urls, directUrl }));
            for (const advice of [onSchema, onPooler]) if (advice) new Logger('database').warn(advice);
            return openPool(urls, connections);
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
