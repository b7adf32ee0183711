import type { App } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { senderPolicySettings, SenderPolicyModule } from './sender-policy.module';

export const senderPolicy: App = {
  name: 'sender-policy',
  describe: () => {
    const settings = loadSettings(process.env, senderPolicySettings);
    return {
      host: settings.HOST,
      port: portOf('sender-policy', settings.PORT),
      module: SenderPolicyModule.forRoot(settings),
    };
  },
};
