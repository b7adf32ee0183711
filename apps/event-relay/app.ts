import type { App } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { EventRelayModule } from './event-relay.module';

export const eventRelay: App = {
  name: 'event-relay',
  describe: () => {
    const settings = loadSettings(process.env);
    return {
      host: settings.HOST,
      port: portOf('event-relay', settings.PORT),
      module: EventRelayModule.forRoot(settings),
    };
  },
};
