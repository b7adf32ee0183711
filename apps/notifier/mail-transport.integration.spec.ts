import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadSettings } from '@app/runtime';
import { Logger } from '@nestjs/common';
import { SMTPServer } from 'smtp-server';
import { mailTransport } from './mail-transport';

describe('a password of the SMTP server that is changed while the notifier runs', () => {
  it('is used by the next mail', async () => {
    Logger.overrideLogger(false);
    const logins: string[] = [];
    const server = new SMTPServer({
      disabledCommands: ['STARTTLS'],
      authOptional: true,
      allowInsecureAuth: true,
      onAuth: ({ password }, _session, done) => {
        logins.push(password!);
        done(password === 'second' ? null : new Error('Wrong password'), { user: 'sendmux' });
      },
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', () => listening()));
    const { port } = server.server.address() as AddressInfo;
    const directory = mkdtempSync(join(tmpdir(), 'smtp-'));
    const file = join(directory, 'url');
    const put = (password: string) => writeFileSync(file, `smtp://sendmux:${password}@127.0.0.1:${port}\n`);
    put('first');
    const env = { SENDMUX_DATA_DIR: directory, SMTP_URL_FILE: file };
    const transport = mailTransport(loadSettings(env, ['SMTP_URL']));
    const mail = { from: 'a@example.com', to: 'b@example.com', subject: 'A mail', text: 'Text' };
    await expect(transport.sendMail(mail)).rejects.toThrow('535');
    put('second');
    await transport.sendMail(mail);
    expect(logins).toEqual(['first', 'second']);
    await new Promise<void>((closed) => server.close(closed));
    rmSync(directory, { recursive: true });
  });
});
