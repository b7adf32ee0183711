import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseDuration } from './duration';
import { newId } from './ids';
import { sesShards } from './ses-shards';
import {
  embeddedSettingsFile,
  loadSettings,
  outboundProviders,
  providersForCustomers,
  SettingsInvalid,
  tracingSettings,
} from './settings';

const complete = {
  DATABASE_URL: 'postgres://127.0.0.1/a',
  MAIL_SERVER_DATABASE_URL: 'postgres://127.0.0.1/b',
  DOH_RESOLVERS: 'https://a.example/dns-query, https://b.example/dns-query',
  SMTP_URL: 'smtp://127.0.0.1:25',
  SENDMUX_DATA_DIR: '/nonexistent',
};

describe('settings', () => {
  it('has defaults, as numbers and in milliseconds', () => {
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

  it.each([
    [{ MAX_DOMAINS_PER_TEAM: '9500' }, /MAX_DOMAINS_PER_TEAM must be below MAX_DOMAINS/],
    [{ MAX_DOMAINS: '1000' }, /MAX_DOMAINS_PER_TEAM must be below MAX_DOMAINS/],
    [{ MAX_MAILBOXES_PER_TEAM: '1.5' }, /MAX_MAILBOXES_PER_TEAM must be a whole number/],
    [{ MAX_DOMAINS: '-1' }, /MAX_DOMAINS must be a number from 0/],
  ])('refuses the quotas %j', (settings, fault) => {
    expect(() => loadSettings({ ...complete, ...settings })).toThrow(fault);
  });

  it.each([
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' }, /OTEL_EXPORTER_OTLP_ENDPOINT must be a URL/],
    [{ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }, /OTEL_EXPORTER_OTLP_PROTOCOL must be http\/protobuf.*4318/],
    [{ OTEL_TRACES_SAMPLER: 'jaeger_remote' }, /OTEL_TRACES_SAMPLER must be always_on, .* or parentbased_traceidratio/],
    [{ OTEL_TRACES_SAMPLER_ARG: '1%' }, /OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1/],
    [{ OTEL_BSP_MAX_QUEUE_SIZE: '10' }, /OTEL_BSP_MAX_QUEUE_SIZE must be a number from 512/],
  ])('refuses the traces %j', (settings, fault) => {
    expect(() => loadSettings({ ...complete, ...settings })).toThrow(fault);
    expect(() => loadSettings({ ...complete, ...settings }, tracingSettings)).toThrow(fault);
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

  it('takes addresses and ranges that webhooks never go to', () => {
    const { WEBHOOKS_DENIED_ADDRESSES: denied } = loadSettings({
      ...complete,
      WEBHOOKS_DENIED_ADDRESSES: '203.0.113.7, 198.51.100.0/24,2001:db8::/32',
    });
    for (const address of ['203.0.113.7', '198.51.100.200']) expect(denied.check(address)).toBe(true);
    for (const address of ['203.0.113.8', '198.51.101.1']) expect(denied.check(address)).toBe(false);
    expect(denied.check('2001:db8:1::1', 'ipv6')).toBe(true);
    expect(denied.check('2001:db9::1', 'ipv6')).toBe(false);
  });

  it.each([
    ['https://dns.google/dns-query{?dns}', 'https://dns.google/dns-query'],
    ['https://dns.example/q?profile=a{&dns}', 'https://dns.example/q?profile=a'],
    ['http://[::1]:8053/dns-query{?dns}', 'http://[::1]:8053/dns-query'],
    ['https://dns.example', 'https://dns.example'],
  ])('R10: DOH_RESOLVERS takes the URI template %s', (template, url) =>
    expect(loadSettings({ ...complete, DOH_RESOLVERS: template }).DOH_RESOLVERS).toEqual([url]),
  );

  it.each([
    ['DOH_RESOLVERS', 'https://dns.google/{path}{?dns}'],
    ['DOH_RESOLVERS', 'https://dns.google/dns-query{?name}'],
    ['DOH_RESOLVERS', 'https://dns.google/dns-query{dns}'],
    ['DOH_RESOLVERS', 'https://dns.google/dns-query{&dns}'],
    ['DOH_RESOLVERS', 'https://dns.google/dns-query?a=b{?dns}'],
    ['DOH_RESOLVERS', 'https://dns.google/dns-query{?dns}#a'],
    ['DOH_RESOLVERS', 'https://dns.google/dns-query?dns=x'],
    ['DOH_RESOLVERS', 'https://user:password@dns.google/dns-query'],
    ['DOH_RESOLVERS', 'https://dns.google/dns-query,https://dns.google/dns-query{?dns}'],
    ['DOH_TIMEOUT', '25d'],
    ['SMTP_URL', 'smtp:'],
    ['AWS_REGION', 'eu west 1'],
    ['AWS_SECRET_ACCESS_KEY', 'x', 'AWS_ACCESS_KEY_ID'],
    ['AWS_ACCESS_KEY_ID', 'x'],
    ['KAFKA_BROKERS', 'a:99999'],
    ['KAFKA_SASL_MECHANISM', 'plain', 'KAFKA_USERNAME'],
    ['KAFKA_PASSWORD', 'x'],
    ['KAFKA_CLIENT', 'librdkafka'],
    ['KAFKA_COMPRESSION', 'snappy'],
    ['KAFKA_COMPRESSION', 'lz4'],
    ['KAFKA_SASL_MECHANISM', 'gssapi'],
    ['KAFKA_SASL_MECHANISM', 'aws-msk-iam'],
    ['KAFKA_SASL_MECHANISM', 'oauthbearer', 'KAFKA_OAUTH_TOKEN_URL'],
    ['KAFKA_SASL_MECHANISM', 'oauthbearer', 'KAFKA_OAUTH_CLIENT_SECRET'],
    ['KAFKA_OAUTH_TOKEN_URL', 'http://idp.example/token'],
    ['KAFKA_OAUTH_SCOPE', 'kafka'],
    ['KAFKA_AWS_REGION', 'eu-west-1'],
    ['KAFKA_CA_FILE', 'ca.pem'],
    ['KAFKA_CERTIFICATE_FILE', 'client.pem'],
    ['KAFKA_TOPIC', '..'],
    ['AUDIT_TOPIC', 'sendmux.domain-events'],
    ['OUTBOUND_PROVIDERS', 'mailgun=a.example:0'],
    ['POSTMASTER_ADDRESS', 'a@example.com,b@example.com'],
    ['ROLE_MAIL', 'everybody'],
    ['VERIFICATION_CONCURRENCY', '1.5'],
    ['WEBHOOKS_DENIED_ADDRESSES', '203.0.113.0/33'],
    ['WEBHOOKS_DENIED_ADDRESSES', '203.0.113.0/'],
    ['WEBHOOKS_DENIED_ADDRESSES', '203.0.113.1,internal.example'],
  ])('R10: refuses at the start what cannot work: %s=%s', (setting, value, named = setting) => {
    const load = () => loadSettings({ ...complete, [setting]: value });
    expect(load).toThrow(SettingsInvalid);
    expect(load).toThrow(new RegExp(`^  ${named}( \\(entry \\d\\))? `, 'm'));
  });

  it('takes what each mechanism of SASL needs, and nothing else', () => {
    const load = (settings: object) => () =>
      loadSettings({ ...complete, KAFKA_TLS: 'true', KAFKA_BROKERS: 'a:9092', ...settings });
    const password = { KAFKA_USERNAME: 'u', KAFKA_PASSWORD: 'p' };
    const oauth = {
      KAFKA_OAUTH_TOKEN_URL: 'https://idp.example/token',
      KAFKA_OAUTH_CLIENT_ID: 'id',
      KAFKA_OAUTH_CLIENT_SECRET: 'secret',
    };
    for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512'])
      expect(load({ KAFKA_SASL_MECHANISM: mechanism, ...password })).not.toThrow();
    expect(load({ KAFKA_SASL_MECHANISM: 'oauthbearer', ...oauth, KAFKA_OAUTH_SCOPE: 'kafka' })).not.toThrow();
    expect(load({ KAFKA_SASL_MECHANISM: 'aws-msk-iam', KAFKA_AWS_REGION: 'us-east-1' })).not.toThrow();
    expect(load({ KAFKA_SASL_MECHANISM: 'oauthbearer', ...oauth, ...password })).toThrow(
      /KAFKA_USERNAME is set, and is of no use without KAFKA_SASL_MECHANISM plain or scram-sha-256 or scram-sha-512/,
    );
    expect(load({ KAFKA_SASL_MECHANISM: 'plain', ...oauth })).toThrow(
      /KAFKA_USERNAME is not set, and KAFKA_SASL_MECHANISM=plain needs it\n.*\n.*KAFKA_OAUTH_TOKEN_URL is set, and is of no/,
    );
    for (const url of ['http://localhost:8080/token', 'http://127.0.0.1/token', 'http://[::1]/token'])
      expect(load({ KAFKA_SASL_MECHANISM: 'oauthbearer', ...oauth, KAFKA_OAUTH_TOKEN_URL: url })).not.toThrow();
    for (const url of ['http://localhost.example/token', 'http://127.0.0.1.example/token', 'ftp://127.0.0.1/token'])
      expect(load({ KAFKA_SASL_MECHANISM: 'oauthbearer', ...oauth, KAFKA_OAUTH_TOKEN_URL: url })).toThrow(
        /KAFKA_OAUTH_TOKEN_URL must/,
      );
  });

  describe('SES_SHARDS', () => {
    const load = (text: string, settings: object = {}) => loadSettings({ ...complete, ...settings, SES_SHARDS: text });
    const two = [
      { name: 'default', region: 'eu-west-1' },
      {
        name: 'us-1',
        region: 'us-east-1',
        profile: 'other',
        capacity: 20,
        callsPerSecond: 0.5,
        tenantConfigurationSet: 'customers_1',
      },
    ];

    it('is absent by default: one shard of the account and Region of the AWS SDK, as large as all domains', () => {
      const settings = { AWS_REGION: 'us-east-1', SES_CALLS_PER_SECOND: '3', MAX_DOMAINS: '50000' };
      expect(sesShards(loadSettings({ ...complete, ...settings }))).toEqual([
        { name: 'default', region: 'us-east-1', endpoint: undefined, capacity: 50_000, callsPerSecond: 3 },
      ]);
    });

    it('lists shards, in a text or in a file', () => {
      const directory = mkdtempSync(join(tmpdir(), 'shards-'));
      writeFileSync(join(directory, 'shards.json'), JSON.stringify(two));
      const settings = { SES_CALLS_PER_SECOND: '2', AWS_ENDPOINT_URL_SESV2: 'http://127.0.0.1:1' };
      for (const text of [JSON.stringify(two), `@${join(directory, 'shards.json')}`])
        expect(sesShards(load(text, settings))).toEqual([
          { ...two[0], endpoint: 'http://127.0.0.1:1', capacity: 10_000, callsPerSecond: 2 },
          { ...two[1], endpoint: 'http://127.0.0.1:1' },
        ]);
      rmSync(directory, { recursive: true });
    });

    it.each([
      ['{', /SES_SHARDS must be JSON/],
      ['@/nonexistent/shards.json', /SES_SHARDS cannot be read from its file: ENOENT/],
      ['{"name":"a"}', /SES_SHARDS must be an array of shards/],
      ['[]', /SES_SHARDS must have a shard/],
      [JSON.stringify([...two, { region: 'eu-west-2' }]), /SES_SHARDS \(entry 3\) name must be there/],
      [JSON.stringify([{ ...two[0], region: 'eu west' }]), /\(entry 1\) region must be the name of a Region/],
      [JSON.stringify([{ ...two[0], name: 'A' }]), /\(entry 1\) name must be lower case letters/],
      [JSON.stringify([{ ...two[0], capacity: 1.5 }]), /\(entry 1\) capacity must be a whole number/],
      [JSON.stringify([{ ...two[0], endpoint: 'ftp://a' }]), /\(entry 1\) endpoint must be a URL/],
      [JSON.stringify([{ ...two[0], roleArn: 'arn:aws:iam::1:user/a' }]), /\(entry 1\) roleArn must be the ARN/],
      [
        JSON.stringify([{ ...two[1], roleArn: 'arn:aws:iam::123456789012:role/a' }]),
        /\(entry 1\) has roleArn and profile/,
      ],
      [
        JSON.stringify([{ ...two[0], tenantConfigurationSet: 'a b' }]),
        /\(entry 1\) tenantConfigurationSet must be letters/,
      ],
      [JSON.stringify([{ ...two[0], rate: 1 }]), /\(entry 1\) Unrecognized key: "rate"/],
      [JSON.stringify([two[0], two[0]]), /SES_SHARDS names two shards the same/],
      [JSON.stringify([two[0], { ...two[0], name: 'b' }]), /SES_SHARDS has the same account and Region twice/],
    ])('refuses %s', (text, fault) => {
      expect(() => load(text)).toThrow(fault);
    });
  });

  it('always has Sendmux SES among the outbound providers', () => {
    const known = (settings: object) => [...outboundProviders(loadSettings({ ...complete, ...settings }))];
    const ses = ['sendmux-ses', 'email-smtp.us-east-1.amazonaws.com:587'];
    expect(known({ AWS_REGION: 'us-east-1' })).toEqual([ses]);
    expect(
      known({ AWS_REGION: 'us-east-1', OUTBOUND_PROVIDERS: 'mailgun=smtp.eu.Mailgun.org:587, own=[::1]:25' }),
    ).toEqual([ses, ['mailgun', 'smtp.eu.mailgun.org:587'], ['own', '[::1]:25']]);
    expect(known({ OUTBOUND_PROVIDERS: 'sendmux-ses=127.0.0.1:2525' })).toEqual([['sendmux-ses', '127.0.0.1:2525']]);
    const SES_SHARDS = JSON.stringify([
      { name: 'default', region: 'eu-west-1' },
      { name: 'us-1', region: 'us-east-1' },
    ]);
    const sharded = { SES_SHARDS, OUTBOUND_PROVIDERS: 'mailgun=a.example:587,sendmux-ses-us-1=b.example:2587' };
    expect(known(sharded)).toEqual([
      ['sendmux-ses', 'email-smtp.eu-west-1.amazonaws.com:587'],
      ['sendmux-ses-us-1', 'b.example:2587'],
      ['mailgun', 'a.example:587'],
    ]);
    expect(providersForCustomers(loadSettings({ ...complete, ...sharded }))).toEqual(['sendmux-ses', 'mailgun']);
    expect(known({ SES_SHARDS: '[{"name":"us-1","region":"us-east-1"}]' })).toEqual([
      ['sendmux-ses', 'email-smtp.us-east-1.amazonaws.com:587'],
      ['sendmux-ses-us-1', 'email-smtp.us-east-1.amazonaws.com:587'],
    ]);
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

  it('reports only faults of settings that the process needs', () => {
    expect(loadSettings({ SENDMUX_DATA_DIR: '/nonexistent' }, ['PORT'])).toEqual({ PORT: 3000 });
  });

  it('takes from the embedded services what the environment does not set', () => {
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
