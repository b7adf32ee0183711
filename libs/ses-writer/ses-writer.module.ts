import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { SesShards, type SesModuleOptions } from '@app/ses';
import { SesWriter } from './ses-writer';

@Module({})
export class SesWriterModule implements OnApplicationShutdown {
  constructor(@Inject(SesShards) private readonly shards: SesShards<SesWriter>) {}

  static forRoot({ shards, timeoutMs }: SesModuleOptions): DynamicModule {
    return {
      module: SesWriterModule,
      providers: [
        {
          provide: SesShards,
          useFactory: () => new SesShards(shards, (shard) => new SesWriter({ ...shard, timeoutMs })),
        },
      ],
      exports: [SesShards],
    };
  }

  onApplicationShutdown(): void {
    this.shards.close();
  }
}
