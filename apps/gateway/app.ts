import { join } from 'node:path';
import type { App } from '@app/process';
import { loadSettings, portOf, publicUrlOf } from '@app/runtime';
import { GatewayModule, gatewaySettings } from './gateway.module';
import { edgeOf } from './http/configure';

export const gateway: App = {
  name: 'gateway',
  describe: () => {
    const settings = loadSettings(process.env, gatewaySettings);
    return {
      host: settings.HOST,
      port: portOf('gateway', settings.PORT),
      module: GatewayModule.forRoot(settings),
      ...edgeOf(publicUrlOf(settings), join(__dirname, '../../web')),
    };
  },
};
