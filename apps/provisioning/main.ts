import { schemaVersions } from '@app/mail-domain';
import { mailboxSchemaVersions } from '@app/mailbox';
import { consumeEvents } from '@app/messaging';
import { loadSettings, portOf, runApp } from '@app/runtime';
import { ProvisioningModule } from './provisioning.module';

void runApp('provisioning', () => {
  const settings = loadSettings(process.env);
  return {
    host: settings.HOST,
    port: portOf('provisioning', settings.PORT),
    module: ProvisioningModule.forRoot(settings),
    configure: (app) => consumeEvents(app, 'provisioning', { ...schemaVersions, ...mailboxSchemaVersions }, settings),
  };
});
