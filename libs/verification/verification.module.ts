import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { DohClient } from '@app/dns';
import type { Requirement } from '@app/mail-records';
import { defaultCanary } from '@app/runtime';
import { sesMigrations, SesModule, SesShards, SesStatuses, type SesModuleOptions } from '@app/ses';
import { Canary } from './canary';
import { Explainer } from './explainer';
import { PublishedRecords } from './published-records';
import { Verifier } from './verifier';

export interface VerificationOptions {
  /** DoH URLs of resolvers that are independent of each other. */
  readonly resolvers: readonly string[];
  /** Time-out of one query, in milliseconds. */
  readonly timeoutMs: number;
  readonly ses: SesModuleOptions;
  /** Name of a TXT record of ours; the one at `sendmux.ai` when absent. */
  readonly canary?: string;
  /** What a domain needs to be verified, besides what every domain needs; nothing when absent. */
  readonly required?: readonly Requirement[];
}

/** What an app that looks at domains needs in its database. */
export const verificationMigrations = sesMigrations;

/** The clients of the resolvers, for whoever asks them something else. */
export class Resolvers {
  constructor(readonly clients: readonly DohClient[]) {}
}

@Module({})
export class VerificationModule implements OnApplicationShutdown {
  constructor(@Inject(Resolvers) private readonly resolvers: Resolvers) {}

  static forRoot({ resolvers, timeoutMs, ses, canary = defaultCanary, required }: VerificationOptions): DynamicModule {
    const sesModule = SesModule.forRoot(ses);
    return {
      module: VerificationModule,
      imports: [sesModule],
      providers: [
        {
          provide: Resolvers,
          useFactory: () => new Resolvers(resolvers.map((url) => new DohClient({ url, timeoutMs }))),
        },
        {
          provide: PublishedRecords,
          inject: [Resolvers],
          useFactory: ({ clients }: Resolvers) => new PublishedRecords(clients),
        },
        {
          provide: Canary,
          inject: [Resolvers],
          useFactory: ({ clients }: Resolvers) => new Canary(clients, canary),
        },
        {
          provide: Explainer,
          inject: [Resolvers],
          useFactory: ({ clients }: Resolvers) =>
            new Explainer(
              clients,
              resolvers.map((url) => new URL(url)).map(({ host, pathname }) => host + pathname),
            ),
        },
        {
          provide: Verifier,
          inject: [Resolvers, SesShards, SesStatuses],
          useFactory: ({ clients }: Resolvers, shards: SesShards, statuses: SesStatuses) =>
            new Verifier(clients, shards, required, statuses),
        },
      ],
      exports: [Canary, Explainer, Verifier, PublishedRecords, Resolvers, sesModule],
    };
  }

  onApplicationShutdown(): void {
    for (const client of this.resolvers.clients) client.close();
  }
}
