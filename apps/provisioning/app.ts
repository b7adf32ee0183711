import { consumeEvents } from '@app/messaging';
import type { App } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { eventVersions } from '@app/subscriptions';
import { ProvisioningModule } from './provisioning.module';

export const provisioning: App = {
  name: 'provisioning',
  describe: () => {
    const settings = loadSettings(process.env);
    return {
      host: settings.HOST,
      port: portOf('provisioning', settings.PORT),
      module: ProvisioningModule.forRoot(settings),
      configure: (app) => consumeEvents(app, 'provisioning', eventVersions.written, settings),
    };
  },
};
