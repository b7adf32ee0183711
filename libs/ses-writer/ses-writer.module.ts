import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import type { SesOptions } from '@app/ses';
import { SesWriter } from './ses-writer';

@Module({})
export class SesWriterModule implements OnApplicationShutdown {
  constructor(@Inject(SesWriter) private readonly writer: SesWriter) {}

  static forRoot(options: SesOptions): DynamicModule {
    return {
      module: SesWriterModule,
      providers: [{ provide: SesWriter, useFactory: () => new SesWriter(options) }],
      exports: [SesWriter],
    };
  }

  onApplicationShutdown(): void {
    this.writer.close();
  }
}
