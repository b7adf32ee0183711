import { runApp } from '@app/process';
import { loadSettings, portOf } from '@app/runtime';
import { SenderPolicyModule } from './sender-policy.module';

void runApp('sender-policy', () => {
  const settings = loadSettings(process.env, ['HOST', 'PORT', 'MAIL_SERVER_DATABASE_URL', 'LOG_LEVEL']);
  return {
    host: settings.HOST,
    port: portOf('sender-policy', settings.PORT),
    module: SenderPolicyModule.forRoot(settings),
  };
});
