import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { SesIdentities, type SesOptions } from './ses-identities';

@Module({})
export class SesModule implements OnApplicationShutdown {
  constructor(@Inject(SesIdentities) private readonly identities: SesIdentities) {}

  static forRoot(options: SesOptions): DynamicModule {
    return {
      module: SesModule,
      providers: [{ provide: SesIdentities, useFactory: () => new SesIdentities(options) }],
      exports: [SesIdentities],
    };
  }

  onApplicationShutdown(): void {
    this.identities.close();
  }
}
