import { join } from 'node:path';
import type { App } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { readAllAsJson, SandboxModule } from './sandbox.module';

export const sandbox: App = {
  name: 'sandbox',
  describe: () => {
    const { HOST, PORT, SENDMUX_DATA_DIR, LOG_LEVEL, ...settings } = loadSettings(process.env, [
      'HOST',
      'PORT',
      'SENDMUX_DATA_DIR',
      'LOG_LEVEL',
      'DOMAIN_CONNECT_KEY_FILE',
      'DOMAIN_CONNECT_KEY_NAME',
    ]);
    return {
      host: HOST,
      port: portOf('sandbox', PORT),
      bodyLimit: 1_048_576,
      configure: readAllAsJson,
      // It stands for services of others, which would have traces of their own.
      isTraced: false,
      module: SandboxModule.forRoot({
        host: HOST,
        dohPort: portOf('sandbox-doh', PORT),
        smtpPort: portOf('sandbox-smtp', PORT),
        directory: join(SENDMUX_DATA_DIR, 'sandbox'),
        logLevel: LOG_LEVEL,
        port: portOf('sandbox', PORT),
        connectKey: { file: settings.DOMAIN_CONNECT_KEY_FILE, name: settings.DOMAIN_CONNECT_KEY_NAME },
      }),
    };
  },
};
