import { SigningKey, template } from '@app/domain-connect';
import { loadSettings, SettingsInvalid } from '@app/runtime';
import type { Command } from 'commander';
import { examples, print, printJson } from './output';

/** Adds `sendmux domain-connect …`. */
export function addConnectCommands(connect: Command): void {
  connect
    .command('key')
    .description('prints the TXT records by which DNS providers know the key of DOMAIN_CONNECT_KEY_FILE; makes the key')
    .addHelpText('after', examples('DOMAIN_CONNECT_KEY_FILE=/etc/sendmux/connect.pem sendmux domain-connect key'))
    .action((_options: object, command: Command) => {
      const settings = loadSettings(process.env, ['DOMAIN_CONNECT_KEY_FILE', 'DOMAIN_CONNECT_KEY_NAME']);
      const file = settings.DOMAIN_CONNECT_KEY_FILE;
      if (file === undefined)
        throw new SettingsInvalid(
          'DOMAIN_CONNECT_KEY_FILE is not set: name the file of the key, which is made if absent.',
        );
      const { key, isNew } = SigningKey.open(file);
      const name = `${settings.DOMAIN_CONNECT_KEY_NAME}.${template.syncPubKeyDomain}`;
      const values = key.records();
      print(command, { file, made: isNew, name, type: 'TXT', values, public_key: key.publicKey() }, () => [
        ...(isNew ? [`Made the key ${file}. Keep a copy: links are signed by it alone.`] : []),
        `Publish these ${values.length} TXT records at ${name}:`,
        ...values,
      ]);
    });

  connect
    .command('template')
    .description('prints the template that DNS providers are asked to accept')
    .addHelpText('after', examples('sendmux domain-connect template > sendmux.ai.mail.json'))
    .action(() => printJson(template, 2));
}
