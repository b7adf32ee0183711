import { runApp } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { SealerModule } from './sealer.module';

void runApp('sealer', () => {
  const settings = loadSettings(process.env);
  return { host: settings.HOST, port: portOf('sealer', settings.PORT), module: SealerModule.forRoot(settings) };
});
