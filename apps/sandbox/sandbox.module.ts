import { BadRequestException, Module, type DynamicModule } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { ProcessModule } from '@app/process';
import { DomainConnectController } from './domain-connect.controller';
import { platformRecords, SandboxAddress, type PublishedKey } from './platform-records';
import { DohServer } from './doh.server';
import { Faults, FaultsController } from './faults';
import { IndexController } from './index.controller';
import { MailsController, SmtpSink } from './mails';
import { AssetsController } from './page.controller';
import { SesCalls } from './ses-calls';
import { SesController } from './ses.controller';
import { SesRegions } from './ses-regions';
import { SesTenantsController } from './ses-tenants.controller';
import { SandboxState } from './state';
import { Zone } from './zone';
import { ZoneController } from './zone.controller';

export interface SandboxOptions {
  readonly host: string;
  /** 0 means any free port. */
  readonly dohPort: number;
  readonly smtpPort: number;
  /** The directory of the file with the state. */
  readonly directory: string;
  readonly logLevel: string;
  /** The port of the sandbox itself, by which its DNS provider is named; absent where nobody uses that. */
  readonly port?: number;
  readonly connectKey?: PublishedKey;
}

/** Reads form bodies as JSON, since `curl -d` always sends the content type of a form. */
export function readAllAsJson(app: NestFastifyApplication): void {
  app.useBodyParser('application/x-www-form-urlencoded', {}, (_request, body, done) => {
    try {
      done(null, JSON.parse(body.toString()));
    } catch {
      done(new BadRequestException('The body is not JSON.'), undefined);
    }
  });
}

@Module({})
export class SandboxModule {
  static forRoot({
    host,
    dohPort,
    smtpPort,
    directory,
    logLevel,
    port = 0,
    connectKey,
  }: SandboxOptions): DynamicModule {
    const address = new SandboxAddress(`${host === '0.0.0.0' ? '127.0.0.1' : host}:${port}`);
    const key = connectKey ?? { file: undefined, name: '' };
    return {
      module: SandboxModule,
      imports: [ProcessModule.forApp('sandbox', logLevel)],
      controllers: [
        IndexController,
        AssetsController,
        ZoneController,
        SesController,
        SesTenantsController,
        MailsController,
        FaultsController,
        DomainConnectController,
      ],
      providers: [
        Faults,
        SesRegions,
        SesCalls,
        { provide: SandboxAddress, useValue: address },
        {
          provide: Zone,
          inject: [SandboxState],
          useFactory: (state: SandboxState) => new Zone(state, (name) => platformRecords(name, address, key)),
        },
        { provide: SandboxState, useFactory: () => new SandboxState(directory) },
        {
          provide: DohServer,
          inject: [Zone, Faults],
          useFactory: (zone: Zone, faults: Faults) => new DohServer(zone, faults, { host, port: dohPort }),
        },
        {
          provide: SmtpSink,
          inject: [SandboxState, Faults],
          useFactory: (state: SandboxState, faults: Faults) => new SmtpSink(state, faults, { host, port: smtpPort }),
        },
      ],
    };
  }
}
