import { consumeEvents } from '@app/messaging';
import type { App } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { eventVersions } from '@app/subscriptions';
import { WebhooksModule } from './webhooks.module';

export const webhooks: App = {
  name: 'webhooks',
  describe: () => {
    const settings = loadSettings(process.env);
    return {
      host: settings.HOST,
      port: portOf('webhooks', settings.PORT),
      module: WebhooksModule.forRoot(settings),
      configure: (app) => consumeEvents(app, 'webhooks', eventVersions.written, settings, { lingerMs: 20 }),
    };
  },
};
