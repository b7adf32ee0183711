import { loadSettings, portOf, runApp } from '@app/runtime';
import { GatewayModule, gatewaySettings } from './gateway.module';
import { configure, refusals } from './http/configure';

void runApp('gateway', () => {
  const settings = loadSettings(process.env, gatewaySettings);
  return {
    host: settings.HOST,
    port: portOf('gateway', settings.PORT),
    module: GatewayModule.forRoot(settings),
    configure,
    refusals,
  };
});
