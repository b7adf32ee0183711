import { consumeEvents } from '@app/messaging';
import type { App } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { eventVersions } from '@app/subscriptions';
import { VerificationSchedulerModule } from './verification-scheduler.module';

export const verificationScheduler: App = {
  name: 'verification-scheduler',
  describe: () => {
    const settings = loadSettings(process.env);
    return {
      host: settings.HOST,
      port: portOf('verification-scheduler', settings.PORT),
      module: VerificationSchedulerModule.forRoot(settings),
      configure: (app) =>
        consumeEvents(app, 'verification-scheduler', eventVersions.written, settings, { lingerMs: 100 }),
    };
  },
};
