import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseDuration } from './duration';
import { newId } from './ids';
import { embeddedSettingsFile, loadSettings, outboundProviders, SettingsInvalid } from './settings';

const complete = {
  DATABASE_URL: 'postgres://127.0.0.1/a',
  MAIL_SERVER_DATABASE_URL: 'postgres://127.0.0.1/b',
  DOH_RESOLVERS: 'https://a.example/dns-query, https://b.example/dns-query',
  SMTP_URL: 'smtp://127.0.0.1:25',
  SENDMUX_DATA_DIR: '/nonexistent',
};

describe('settings', () => {
  it('has a default for all that needs none, in milliseconds and numbers', () => {
    expect(loadSettings(complete)).toMatchObject({
      PORT: 3000,
      VERIFICATION_INTERVAL: 21_600_000,
      DOH_RESOLVERS: ['https://a.example/dns-query', 'https://b.example/dns-query'],
    });
  });

  it('lists every fault at once, with what to do', () => {
    const faulty = { ...complete, DATABASE_URL: '', PORT: 'http', VERIFICATION_INTERVAL: '6', LOG_LEVEL: 'loud' };
    const load = () => loadSettings(faulty);
    expect(load).toThrow(SettingsInvalid);
    expect(load).toThrow(/DATABASE_URL is not set.*make start/);
    expect(load).toThrow(/PORT must be a number/);
    expect(load).toThrow(/VERIFICATION_INTERVAL must be a duration/);
    expect(load).toThrow(/LOG_LEVEL/);
  });

  it('names the entry of a list that is at fault', () => {
    const load = (settings: object) => () => loadSettings({ ...complete, ...settings });
    expect(load({ DOH_RESOLVERS: 'https://a.example/dns-query,b' })).toThrow(/DOH_RESOLVERS \(entry 2\) must be a URL/);
    expect(load({ KAFKA_BROKERS: 'a:9092,b' })).toThrow(/KAFKA_BROKERS \(entry 2\) must be host:port/);
    for (const same of ['https://a.example/dns-query', 'https://A.example:443/dns-query'])
      expect(load({ DOH_RESOLVERS: `https://a.example/dns-query,${same}` })).toThrow(
        /DOH_RESOLVERS names the same resolver twice/,
      );
  });

  it('always knows Sendmux SES among the outbound providers', () => {
    const known = (settings: object) => [...outboundProviders(loadSettings({ ...complete, ...settings }))];
    const ses = ['sendmux-ses', 'email-smtp.us-east-1.amazonaws.com:587'];
    expect(known({ AWS_REGION: 'us-east-1' })).toEqual([ses]);
    expect(
      known({ AWS_REGION: 'us-east-1', OUTBOUND_PROVIDERS: 'mailgun=smtp.eu.Mailgun.org:587, own=[::1]:25' }),
    ).toEqual([ses, ['mailgun', 'smtp.eu.mailgun.org:587'], ['own', '[::1]:25']]);
    expect(known({ OUTBOUND_PROVIDERS: 'sendmux-ses=127.0.0.1:2525' })).toEqual([['sendmux-ses', '127.0.0.1:2525']]);
    expect(() => known({ OUTBOUND_PROVIDERS: 'a=b:1,mailgun' })).toThrow(
      /OUTBOUND_PROVIDERS \(entry 2\) must be name=host:port/,
    );
    expect(() => known({ OUTBOUND_PROVIDERS: 'a=b:1,A=c:1' })).toThrow(
      /OUTBOUND_PROVIDERS names the same provider twice/,
    );
  });

  it.each(['bad', 'Bad <bad>', 'a@b\nc', ''])('refuses NOTIFY_FROM=%j unless it is empty', (from) => {
    const load = () => loadSettings({ ...complete, NOTIFY_FROM: from });
    if (from === '') expect(load().NOTIFY_FROM).toContain('@');
    else expect(load).toThrow(/NOTIFY_FROM must be an address/);
  });

  it('asks a process only for what it needs', () => {
    expect(loadSettings({ SENDMUX_DATA_DIR: '/nonexistent' }, ['PORT'])).toEqual({ PORT: 3000 });
  });

  it('takes from the embedded services what the environment does not say', () => {
    const directory = mkdtempSync(join(tmpdir(), 'settings-'));
    writeFileSync(embeddedSettingsFile(directory), 'DATABASE_URL=postgres://127.0.0.1/embedded\nPORT=4000\n');
    const settings = loadSettings({ SENDMUX_DATA_DIR: directory, PORT: '5000' }, ['PORT', 'DATABASE_URL']);
    expect(settings).toEqual({ PORT: 5000, DATABASE_URL: 'postgres://127.0.0.1/embedded' });
    rmSync(directory, { recursive: true });
  });
});

describe('durations and ids', () => {
  it.each([
    ['6h', 21_600_000],
    ['250ms', 250],
    ['1.5s', 1_500],
    ['6', undefined],
    ['-6h', undefined],
  ])('%s is %s ms', (text, expected) => expect(parseDuration(text)).toBe(expected));

  it('has the form of the guide and sorts by age', () => {
    expect(newId('mdom')).toMatch(/^mdom_cl[0-9a-z]{25}$/);
    expect(newId('mdom', 1_000) < newId('mdom', 2_000)).toBe(true);
  });
});
