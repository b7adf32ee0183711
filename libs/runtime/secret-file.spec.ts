import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { Logger } from '@nestjs/common';
import { register } from 'prom-client';
import { embeddedSettingsFile, loadSettings, secretSettings, SettingsInvalid } from './settings';

const first = 'postgres://sendmux:first@127.0.0.1/a';
const second = 'postgres://sendmux:second@127.0.0.1/a';
const ring = (octet: number) => Buffer.alloc(32, octet).toString('base64');

describe('a secret in a file', () => {
  let directory: string;
  const at = (name: string) => join(directory, name);
  const file = (name: string, text: string | Buffer) => {
    writeFileSync(at(name), text);
    return at(name);
  };
  const load = (env: NodeJS.ProcessEnv) => loadSettings({ SENDMUX_DATA_DIR: directory, ...env }, ['DATABASE_URL']);
  const faultMetric = async () => (await register.getSingleMetricAsString('sendmux_secret_file_fault')).split('\n')[2];

  beforeEach(() => {
    Logger.overrideLogger(false);
    directory = mkdtempSync(join(tmpdir(), 'secrets-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it.each(secretSettings)('can be %s, without the line break at its end', (setting) => {
    const text = setting.endsWith('KEYS') ? `a=${ring(1)}` : setting === 'SMTP_URL' ? 'smtp://u:p@127.0.0.1' : first;
    const value = (env: NodeJS.ProcessEnv) => loadSettings({ SENDMUX_DATA_DIR: directory, ...env }, [setting])[setting];
    for (const end of ['', '\n', '\r\n'])
      expect(value({ [`${setting}_FILE`]: file('secret', text + end) })).toEqual(value({ [setting]: text }));
  });

  it('comes before what `make start` has embedded, and never beside the setting itself', () => {
    writeFileSync(embeddedSettingsFile(directory), `DATABASE_URL=${first}\n`);
    const DATABASE_URL_FILE = file('url', second);
    expect(load({ DATABASE_URL_FILE }).DATABASE_URL).toBe(second);
    expect(() => load({ DATABASE_URL: first, DATABASE_URL_FILE })).toThrow(
      'DATABASE_URL and DATABASE_URL_FILE are both set: remove one of them',
    );
    expect(load({ DATABASE_URL: first, DATABASE_URL_FILE: '' }).DATABASE_URL).toBe(first);
  });

  it('is refused at the start, by the setting and the path, and never by its content', () => {
    const secret = 'hunter2';
    spawnSync('mkfifo', [at('pipe')]);
    mkdirSync(at('folder'));
    const cases: [string, string][] = [
      [at('absent'), 'is missing'],
      [at('folder'), 'is no file'],
      [at('pipe'), 'is no file'],
      [file('empty', ''), 'is empty'],
      [file('line', '\n'), 'is empty'],
      [file('long', `${secret}${'x'.repeat(65_536)}`), 'has more than 65536 octets'],
      [file('lines', `${first}\n${secret}\n`), 'has more than one line, or a control character'],
      [file('latin', Buffer.from([0x70, 0xe4])), 'is no text in UTF-8'],
      [
        file('text', secret),
        'cannot be used: DATABASE_URL must be a URL that starts with postgres:// or postgresql://',
      ],
    ];
    for (const [path, fault] of cases) {
      const refused = () => load({ DATABASE_URL_FILE: path });
      expect(refused).toThrow(SettingsInvalid);
      expect(refused).toThrow(`DATABASE_URL_FILE: ${path} ${fault}`);
      expect(refused).not.toThrow(secret);
    }
  });

  it('is not quoted where it is given in place of the path', () => {
    for (const secret of [second, 'hunter2', `a=${ring(1)}`, 'x'.repeat(10_000)]) {
      const refused = () => load({ DATABASE_URL_FILE: secret });
      expect(refused).toThrow('DATABASE_URL_FILE names no file: it has to be a path');
      expect(refused).not.toThrow(secret.slice(-7));
    }
  });

  it('is no other setting, and none of the AWS SDK', () => {
    expect(() => loadSettings({ PORT_FILE: '/run/port' }, ['PORT'])).toThrow(
      'PORT_FILE is not read: PORT is no secret',
    );
    expect(() => loadSettings({ AWS_SECRET_ACCESS_KEY_FILE: '/run/key' }, ['AWS_SECRET_ACCESS_KEY'])).toThrow(
      'AWS_SECRET_ACCESS_KEY_FILE is not read: put credentials into the file of AWS_SHARED_CREDENTIALS_FILE',
    );
  });

  it('is followed where the file is written anew, replaced, or exchanged by a link as Kubernetes does it', () => {
    // A volume of Kubernetes: the file is a link into `..data`, which is a link to a folder of its time.
    const folder = (name: string, text: string) => {
      mkdirSync(at(name));
      file(`${name}/url`, text);
      symlinkSync(name, at('..new'));
      renameSync(at('..new'), at('..data'));
    };
    folder('..2026_01', first);
    symlinkSync('..data/url', at('url'));
    const settings = load({ DATABASE_URL_FILE: at('url') });
    expect(settings.DATABASE_URL).toBe(first);
    folder('..2026_02', second);
    expect(settings.DATABASE_URL).toBe(second);
    file('..2026_02/url', first);
    expect(settings.DATABASE_URL).toBe(first);
    renameSync(file('other', second), at('..2026_02/url'));
    expect(settings.DATABASE_URL).toBe(second);
  });

  it('stays as it was while its file is gone or wrong, which an operator is told', async () => {
    const settings = load({ DATABASE_URL_FILE: file('url', first) });
    const errors = jest.fn();
    Logger.overrideLogger({ error: errors, log: () => undefined, warn: () => undefined });
    for (const spoil of [() => rmSync(at('url')), () => file('url', 'nonsense'), () => file('url', '')]) {
      spoil();
      expect(settings.DATABASE_URL).toBe(first);
      expect(await faultMetric()).toBe('sendmux_secret_file_fault{setting="DATABASE_URL"} 1');
    }
    expect(errors).toHaveBeenCalledTimes(1);
    expect(JSON.stringify(errors.mock.calls)).toContain(`${at('url')} is missing. The last value is used`);
    file('url', second);
    expect(settings.DATABASE_URL).toBe(second);
    expect(await faultMetric()).toBeUndefined();
  });
});
