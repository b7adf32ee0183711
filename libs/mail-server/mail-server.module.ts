import { Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { MailServer, type MailServerOptions } from './mail-server';

@Module({})
export class MailServerModule implements OnApplicationShutdown {
  constructor(@Inject(MailServer) private readonly mailServer: MailServer) {}

  static forRoot(options: MailServerOptions): DynamicModule {
    return {
      module: MailServerModule,
      providers: [
        {
          provide: MailServer,
          useFactory: async () => {
            const mailServer = new MailServer(options);
            await mailServer.checkTables();
            return mailServer;
          },
        },
      ],
      exports: [MailServer],
    };
  }

  async onApplicationShutdown(): Promise<void> {
    await this.mailServer.close();
  }
}
