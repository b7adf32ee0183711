import { join } from 'node:path';
import { runApp } from '@app/process';
import { loadSettings, portOf, publicUrlOf } from '@app/runtime';
import { GatewayModule, gatewaySettings } from './gateway.module';
import { edgeOf } from './http/configure';

void runApp('gateway', () => {
  const settings = loadSettings(process.env, gatewaySettings);
  return {
    host: settings.HOST,
    port: portOf('gateway', settings.PORT),
    module: GatewayModule.forRoot(settings),
    ...edgeOf(publicUrlOf(settings), join(__dirname, '../../web')),
  };
});
