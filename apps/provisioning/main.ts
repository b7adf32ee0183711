import { consumeEvents } from '@app/messaging';
import { runApp } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { eventVersions } from '@app/subscriptions';
import { ProvisioningModule } from './provisioning.module';

void runApp('provisioning', () => {
  const settings = loadSettings(process.env);
  return {
    host: settings.HOST,
    port: portOf('provisioning', settings.PORT),
    module: ProvisioningModule.forRoot(settings),
    configure: (app) => consumeEvents(app, 'provisioning', eventVersions.written, settings),
  };
});
