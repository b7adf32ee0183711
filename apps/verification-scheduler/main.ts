import { schemaVersions } from '@app/mail-domain';
import { mailboxSchemaVersions } from '@app/mailbox';
import { consumeEvents } from '@app/messaging';
import { loadSettings, portOf, runApp } from '@app/runtime';
import { VerificationSchedulerModule } from './verification-scheduler.module';

void runApp('verification-scheduler', () => {
  const settings = loadSettings(process.env);
  return {
    host: settings.HOST,
    port: portOf('verification-scheduler', settings.PORT),
    module: VerificationSchedulerModule.forRoot(settings),
    configure: (app) =>
      consumeEvents(app, 'verification-scheduler', { ...schemaVersions, ...mailboxSchemaVersions }, settings),
  };
});
