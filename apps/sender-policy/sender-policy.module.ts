import { Module, type DynamicModule } from '@nestjs/common';
import { mailServerUrls } from '@app/database';
import { MailServer, MailServerModule } from '@app/mail-server';
import { ProcessModule } from '@app/process';
import { HealthProbes, portOf, type Settings } from '@app/runtime';
import { PolicyServer } from './policy-server';
import { SenderPolicy } from './sender-policy';

/** The names of the settings that the app uses. */
export const senderPolicySettings = [
  'HOST',
  'PORT',
  'MAIL_SERVER_DATABASE_URL',
  'MAIL_SERVER_DATABASE_DIRECT_URL',
  'LOG_LEVEL',
] as const satisfies readonly (keyof Settings)[];

@Module({})
export class SenderPolicyModule {
  static forRoot(settings: Pick<Settings, (typeof senderPolicySettings)[number]>): DynamicModule {
    return {
      module: SenderPolicyModule,
      imports: [
        ProcessModule.forApp('sender-policy', settings.LOG_LEVEL),
        MailServerModule.forRoot(mailServerUrls(settings)),
      ],
      providers: [
        {
          provide: PolicyServer,
          inject: [MailServer, HealthProbes],
          useFactory: (mailServer: MailServer, probes: HealthProbes) => {
            probes.add('ready', 'mail_server', () => mailServer.ping());
            const policy = new SenderPolicy(mailServer);
            const port = portOf('sender-policy-postfix', settings.PORT);
            return new PolicyServer((attributes) => policy.actionFor(attributes), { host: settings.HOST, port });
          },
        },
      ],
    };
  }
}
