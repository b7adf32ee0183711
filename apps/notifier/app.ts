import { consumeEvents } from '@app/messaging';
import type { App } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { eventVersions } from '@app/subscriptions';
import { NotifierModule } from './notifier.module';

export const notifier: App = {
  name: 'notifier',
  describe: () => {
    const settings = loadSettings(process.env);
    return {
      host: settings.HOST,
      port: portOf('notifier', settings.PORT),
      module: NotifierModule.forRoot(settings),
      configure: (app) => consumeEvents(app, 'notifier', eventVersions.written, settings, { lingerMs: 100 }),
    };
  },
};
