import { schemaVersions } from '@app/mail-domain';
import { mailboxSchemaVersions } from '@app/mailbox';
import { consumeEvents } from '@app/messaging';
import { loadSettings, portOf, runApp } from '@app/runtime';
import { NotifierModule } from './notifier.module';

void runApp('notifier', () => {
  const settings = loadSettings(process.env);
  return {
    host: settings.HOST,
    port: portOf('notifier', settings.PORT),
    module: NotifierModule.forRoot(settings),
    configure: (app) => consumeEvents(app, 'notifier', { ...schemaVersions, ...mailboxSchemaVersions }, settings),
  };
});
