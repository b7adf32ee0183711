import type { App } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { SealerModule } from './sealer.module';

export const sealer: App = {
  name: 'sealer',
  describe: () => {
    const settings = loadSettings(process.env);
    return { host: settings.HOST, port: portOf('sealer', settings.PORT), module: SealerModule.forRoot(settings) };
  },
};
