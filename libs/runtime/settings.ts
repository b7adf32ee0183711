import { existsSync, readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { join } from 'node:path';
import zlib from 'node:zlib';
import { parseEnv } from 'node:util';
import { z } from 'zod';
import { parseDuration } from './duration';
import { SecretFile } from './secret-file';
import { defaultShard, regionFault, regionForm, sesShards, shardList, type ShardSettings } from './ses-shards';

const url = (...protocols: string[]) =>
  z
    .string()
    .refine(
      (text) => URL.canParse(text) && protocols.includes(new URL(text).protocol),
      `must be a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`,
    );

/** A URL of a server; `pg` finds one itself where the URL has none, nobody else does. */
const serverUrl = (...protocols: string[]) =>
  url(...protocols).refine((text) => !URL.canParse(text) || new URL(text).hostname !== '', 'must name a host');

/**
 * Removes the variable of a URI template: `{?dns}`, or `{&dns}` after other parameters (RFC 8484 section 3, RFC 6570).
 */
function withoutVariable(template: string): string {
  for (const [variable, followsAQuery] of [
    ['{?dns}', false],
    ['{&dns}', true],
  ] as const) {
    const url = template.slice(0, -variable.length);
    if (template.endsWith(variable) && url.includes('?') === followsAQuery) return url;
  }
  return template;
}

/** A URL or a URI template of a DoH server; gives the URL, to which the client adds the parameter `dns`. */
const dohServer = z
  .string()
  .transform(withoutVariable)
  .pipe(
    serverUrl('https:', 'http:')
      .refine(
        (text) => !/[{}]/.test(text),
        'may be a URI template that ends with {?dns}, or with {&dns} after a query, and nothing else',
      )
      .refine((text) => !/#|\/\/[^/?]*@/.test(text), 'must have no user and no fragment: neither is sent')
      .refine(
        (text) => !URL.canParse(text) || !new URL(text).searchParams.has('dns'),
        'must not have the parameter dns: each question has its own',
      ),
  );

/** Tells whether all URLs differ once normalised: `https://A.example:443/x` is `https://a.example/x`. */
const allDiffer = (urls: readonly string[]): boolean =>
  new Set(urls.map((one) => (URL.canParse(one) ? new URL(one).href : one))).size === urls.length;

/** @param most timers of Node end at once that are longer than 2^31 ms, which is a little more than 24 days. */
const duration = (fallback: string, min: number, most = '24d') =>
  z
    .string()
    .default(fallback)
    .transform((text, context) => {
      const milliseconds = parseDuration(text);
      if (milliseconds === undefined || milliseconds < min || milliseconds > parseDuration(most)!) {
        context.addIssue(`must be a duration from ${min} ms to ${most}, such as 500ms, 10s, 30m or 6h`);
        return z.NEVER;
      }
      return milliseconds;
    });

/** What is compared with an age, and never waited for, may be longer than a timer. */
const longestAge = '3650d';

const number = (fallback: number, min: number, max: number) =>
  z.coerce
    .number({ error: `must be a number from ${min} to ${max}` })
    .min(min, `must be a number from ${min} to ${max}`)
    .max(max, `must be a number from ${min} to ${max}`)
    .default(fallback);

const wholeNumber = (fallback: number, min: number, max: number) =>
  number(fallback, min, max).refine(Number.isInteger, 'must be a whole number');

const isPort = (text: string): boolean => Number(text) >= 1 && Number(text) <= 65_535;

/** A text in a form that ends with a port. */
const withPort = (form: RegExp, fault: string) =>
  z
    .string()
    .regex(form, fault)
    .refine((text) => !form.test(text) || isPort(text.slice(text.lastIndexOf(':') + 1)), 'has a port above 65535 or 0');

const list = (form: RegExp, fault: string) =>
  z
    .string()
    .transform((text) => text.split(',').map((part) => part.trim()))
    .pipe(z.array(withPort(form, fault)).min(1));

/** The form `host:port`, with an IPv6 address in brackets. */
const brokerForm = /^(\[[\da-f:.]+\]|[\w.-]+):\d{1,5}$/i;

/** The form `name=host:port` of a relay. */
const providerForm = /^[a-z0-9][a-z0-9-]{0,31}=(\[[\da-f:.]+\]|[\w.-]+):\d{1,5}$/i;

/** The form `id=key` of a key of 32 octets in base64. */
const keyForm = /^[a-z0-9][a-z0-9._-]{0,31}=[a-z0-9+/]{43}=$/i;

/** Keys of AES-256 by their ids, the newest first: it encrypts, and all of them decrypt. */
const keyRing = z
  .string()
  .transform((text) => text.split(',').map((part) => part.trim()))
  .pipe(
    z
      .array(z.string().regex(keyForm, 'must be id=key, the key of 32 octets in base64: `openssl rand -base64 32`'))
      .min(1)
      .refine(
        (each) => new Set(each.map((one) => one.split('=', 1)[0])).size === each.length,
        'names the same id twice',
      ),
  )
  .transform(
    (each) =>
      new Map(
        each.map((one): [string, Buffer] => {
          const end = one.indexOf('=');
          return [one.slice(0, end), Buffer.from(one.slice(end + 1), 'base64')];
        }),
      ),
  );

/** Addresses and ranges of addresses, separated by commas. */
const addressRanges = z
  .string()
  .default('')
  .transform((text, context) => {
    const ranges = new BlockList();
    for (const range of text.split(',').flatMap((part) => part.trim() || [])) {
      const [address = '', prefix] = range.split('/');
      const longest = { 0: -1, 4: 32, 6: 128 }[isIP(address)]!;
      const length = prefix === undefined ? longest : /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1;
      if (length >= 0 && length <= longest) ranges.addSubnet(address, length, longest === 32 ? 'ipv4' : 'ipv6');
      else
        context.addIssue({
          code: 'custom',
          message: `"${range}" is no address and no range, such as 203.0.113.7 or 2001:db8::/32`,
        });
    }
    return ranges;
  });

const region = z.string().regex(regionForm, regionFault);

const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

const topicForm = /^(?!\.{1,2}$)[\w.-]{1,200}$/;
const topicFault = 'must be letters, digits, dots, dashes and underscores, at most 200';

/** The samplers that the specification of OpenTelemetry names and that need no server. */
const samplers = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const;

const nothingRuns = 'is not set, and no embedded service runs here: start one with `make start`, or set it';

/** The default canary. Its TXT record must be published (docs/operations/running.md); the sandbox has it. */
export const defaultCanary = 'verification-canary.sendmux.ai';

/** Every setting of the product, by its environment variable. `docs/settings.md` describes the same settings. */
const environment = z.object({
  PORT: wholeNumber(3000, 1, 65_000),
  HOST: z.string().min(1).default('127.0.0.1'),
  PUBLIC_URL: serverUrl('https:', 'http:').optional(),
  DATABASE_URL: z.string({ error: nothingRuns }).pipe(url('postgres:', 'postgresql:')),
  DATABASE_DIRECT_URL: url('postgres:', 'postgresql:').optional(),
  MAIL_SERVER_DATABASE_URL: z.string({ error: nothingRuns }).pipe(url('postgres:', 'postgresql:')),
  MAIL_SERVER_DATABASE_DIRECT_URL: url('postgres:', 'postgresql:').optional(),
  DOH_RESOLVERS: z
    .string({ error: nothingRuns })
    .transform((text) => text.split(',').map((part) => part.trim()))
    .pipe(z.array(dohServer).min(1).refine(allDiffer, 'names the same resolver twice: two must be independent')),
  DOH_TIMEOUT: duration('5s', 50),
  AWS_REGION: region.default('eu-west-1'),
  AWS_ENDPOINT_URL_SESV2: serverUrl('https:', 'http:').optional(),
  AWS_ACCESS_KEY_ID: z.string().optional(),
  AWS_SECRET_ACCESS_KEY: z.string().optional(),
  SES_SHARDS: shardList.optional(),
  SES_CALLS_PER_SECOND: number(1, 0.1, 10_000),
  SES_TIMEOUT: duration('10s', 50),
  SES_MOVE_GRACE: duration('1h', 0, longestAge),
  SMTP_URL: z.string({ error: nothingRuns }).pipe(serverUrl('smtp:', 'smtps:')),
  NOTIFY_FROM: z
    .string()
    .regex(
      /^([^\r\n<>]*<[^\s<>@]+@[^\s<>@]+>|[^\s<>@]+@[^\s<>@]+)$/,
      'must be an address, such as notify@example.com or Example <notify@example.com>',
    )
    .default('Sendmux <notifications@sendmux.ai>'),
  OUTBOUND_PROVIDERS: z
    .string()
    .default('')
    .transform((text) =>
      text
        .toLowerCase()
        .split(',')
        .flatMap((part) => part.trim() || []),
    )
    .pipe(
      z
        .array(withPort(providerForm, 'must be name=host:port, such as mailgun=smtp.eu.mailgun.org:587'))
        .refine(
          (each) => new Set(each.map((one) => one.split('=', 1)[0])).size === each.length,
          'names the same provider twice',
        ),
    )
    .transform((each) => new Map(each.map((one) => one.split('=', 2) as [string, string]))),
  ROLE_MAIL: z.enum(['platform', 'owners'], { error: 'must be platform or owners' }).default('platform'),
  POSTMASTER_ADDRESS: z
    .string()
    .regex(/^[^\s<>@,]+@[^\s<>@,]+$/, 'must be one address, such as postmaster@example.com')
    .default('postmaster@sendmux.ai'),
  PROVISIONING_DEADLINE: duration('30s', 100),
  VERIFICATION_INTERVAL: duration('6h', 1_000),
  VERIFICATION_CONCURRENCY: wholeNumber(50, 1, 10_000),
  VERIFICATION_RATE: number(1_000, 0.1, 1_000_000),
  VERIFICATION_CANARY: z
    .string()
    .regex(/^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$/i, 'must be a name of the DNS')
    .default(defaultCanary),
  UNVERIFIED_DOMAIN_EXPIRY: duration('30d', 0, longestAge),
  CLAIM_GRACE: duration('7d', 0, longestAge),
  MAIL_FROM_REQUIRED: z
    .enum(['true', 'false'], { error: 'must be true or false' })
    .default('false')
    .transform((text) => text === 'true'),
  KAFKA_BROKERS: list(brokerForm, 'must be host:port, or several of them separated by commas').optional(),
  KAFKA_CLIENT: z.enum(['kafkajs', 'platformatic'], { error: 'must be kafkajs or platformatic' }).default('kafkajs'),
  KAFKA_TOPIC: z.string().regex(topicForm, topicFault).default('sendmux.domain-events'),
  KAFKA_GROUP_PREFIX: z
    .string()
    .regex(/^[\w.-]{0,100}$/, 'must be letters, digits, dots, dashes and underscores, at most 100')
    .default('sendmux.'),
  KAFKA_PARTITIONS: wholeNumber(12, 1, 10_000),
  KAFKA_REPLICATION: number(-1, -1, 32).refine(
    (replicas) => Number.isInteger(replicas) && replicas !== 0,
    "must be a number of replicas, or -1 for the brokers' own default",
  ),
  KAFKA_COMPRESSION: z
    .enum(['none', 'gzip', 'lz4', 'zstd'], { error: 'must be none, gzip, lz4 or zstd' })
    .refine(
      (text) => text !== 'zstd' || 'zstdCompressSync' in zlib,
      'is zstd, which Node has from 22.15 on: take gzip, or another Node',
    )
    .default('none'),
  KAFKA_TLS: z
    .enum(['true', 'false'], { error: 'must be true or false' })
    .default('false')
    .transform((text) => text === 'true'),
  KAFKA_CA_FILE: z.string().min(1).optional(),
  KAFKA_CERTIFICATE_FILE: z.string().min(1).optional(),
  KAFKA_KEY_FILE: z.string().min(1).optional(),
  KAFKA_SASL_MECHANISM: z
    .enum(['plain', 'scram-sha-256', 'scram-sha-512', 'oauthbearer', 'aws-msk-iam'], {
      error: 'must be plain, scram-sha-256, scram-sha-512, oauthbearer or aws-msk-iam',
    })
    .optional(),
  KAFKA_USERNAME: z.string().optional(),
  KAFKA_PASSWORD: z.string().optional(),
  KAFKA_OAUTH_TOKEN_URL: serverUrl('https:', 'http:')
    .refine(
      (text) => !URL.canParse(text) || new URL(text).protocol === 'https:' || loopback.test(new URL(text).hostname),
      'must start with https://, since the secret is sent there; http:// may only lead to this machine',
    )
    .optional(),
  KAFKA_OAUTH_CLIENT_ID: z.string().min(1).optional(),
  KAFKA_OAUTH_CLIENT_SECRET: z.string().min(1).optional(),
  KAFKA_OAUTH_SCOPE: z.string().min(1).optional(),
  KAFKA_AWS_REGION: region.optional(),
  AUDIT_SIGNING_KEY_FILE: z.string().min(1).optional(),
  AUDIT_PUBLIC_KEYS_FILE: z.string().min(1).optional(),
  AUDIT_SEAL_INTERVAL: duration('60s', 100),
  AUDIT_TOPIC: z.string().regex(topicForm, topicFault).default('sendmux.audit-seals'),
  DOMAIN_CONNECT_PROVIDERS: z
    .string()
    .default('')
    .transform((text) =>
      text
        .toLowerCase()
        .split(',')
        .flatMap((part) => part.trim() || []),
    )
    .pipe(
      z.array(
        z.string().regex(/^(\[::1\]|[\w.-]+)(:\d{1,5})?$/, 'must be names of hosts, such as domainconnect.example.com'),
      ),
    ),
  DOMAIN_CONNECT_KEY_FILE: z.string().min(1).optional(),
  DOMAIN_CONNECT_KEY_NAME: z
    .string()
    .regex(/^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?$/, 'must be one label of the DNS, such as _dck1')
    .default('_dck1'),
  DOMAIN_CONNECT_LOOPBACK: z
    .enum(['true', 'false'], { error: 'must be true or false' })
    .default('false')
    .transform((text) => text === 'true'),
  PERSONAL_DATA_KEYS: keyRing.optional(),
  WEBHOOK_SECRET_KEYS: keyRing.optional(),
  WEBHOOKS_ALLOW_LOOPBACK: z
    .enum(['true', 'false'], { error: 'must be true or false' })
    .default('false')
    .transform((text) => text === 'true'),
  WEBHOOKS_DENIED_ADDRESSES: addressRanges,
  MAX_WEBHOOKS_PER_TEAM: wholeNumber(20, 0, 1_000_000_000),
  RATE_LIMIT_PER_MINUTE: number(600, 1, 10_000_000),
  RATE_LIMIT_PER_TEAM: z.coerce.number().min(1).max(100_000_000).optional(),
  MAX_DOMAINS_PER_TEAM: wholeNumber(1_000, 0, 1_000_000_000),
  MAX_MAILBOXES_PER_TEAM: wholeNumber(10_000, 0, 1_000_000_000),
  MAX_DOMAINS: wholeNumber(9_500, 0, 1_000_000_000),
  OTEL_EXPORTER_OTLP_ENDPOINT: serverUrl('https:', 'http:').optional(),
  OTEL_EXPORTER_OTLP_PROTOCOL: z
    .literal('http/protobuf', {
      error: 'must be http/protobuf, which collectors take on port 4318: grpc and http/json are not spoken here',
    })
    .default('http/protobuf'),
  OTEL_EXPORTER_OTLP_HEADERS: z.string().optional(),
  OTEL_EXPORTER_OTLP_TIMEOUT: wholeNumber(10_000, 1, 600_000),
  OTEL_EXPORTER_OTLP_COMPRESSION: z.enum(['none', 'gzip'], { error: 'must be none or gzip' }).default('none'),
  OTEL_EXPORTER_OTLP_CERTIFICATE: z.string().min(1).optional(),
  OTEL_SERVICE_NAME: z.string().min(1).optional(),
  OTEL_RESOURCE_ATTRIBUTES: z.string().optional(),
  OTEL_TRACES_SAMPLER: z
    .enum(samplers, { error: `must be ${samplers.slice(0, -1).join(', ')} or ${samplers.at(-1)}` })
    .default('parentbased_always_on'),
  OTEL_TRACES_SAMPLER_ARG: number(1, 0, 1),
  OTEL_PROPAGATORS: z
    .string()
    .default('tracecontext')
    .transform((text) => text.split(',').map((part) => part.trim())),
  OTEL_BSP_SCHEDULE_DELAY: wholeNumber(5_000, 10, 600_000),
  OTEL_BSP_MAX_QUEUE_SIZE: wholeNumber(2_048, 512, 1_000_000),
  OTEL_SDK_DISABLED: z
    .enum(['true', 'false'], { error: 'must be true or false' })
    .default('false')
    .transform((text) => text === 'true'),
  SENDMUX_DATA_DIR: z.string().min(1).default('.sendmux'),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
});

export type Settings = Readonly<z.infer<typeof environment>>;

/** Gives the URL under which customers reach the gateway, without a slash at its end. */
export const publicUrlOf = ({ PUBLIC_URL, HOST, PORT }: Pick<Settings, 'PUBLIC_URL' | 'HOST' | 'PORT'>): string =>
  (PUBLIC_URL ?? `http://${HOST}:${PORT}`).replace(/\/$/, '');

/** The name of the relay of the shard `default`, and of SES for customers, whichever shard their domains are in. */
const sendmuxSes = 'sendmux-ses';

/** Gives the name of the relay of a shard of SES. */
export const sesRelay = (shard: string): string => (shard === defaultShard ? sendmuxSes : `${sendmuxSes}-${shard}`);

type ProviderSettings = Pick<Settings, 'OUTBOUND_PROVIDERS'> & ShardSettings;

/**
 * Gives the relays that outgoing mail may leave through: `host:port` by name. They include one for each shard of SES,
 * in its Region unless the settings name another host, and `sendmux-ses` in any case.
 */
export function outboundProviders(settings: ProviderSettings): ReadonlyMap<string, string> {
  const shards = sesShards(settings);
  const relayIn = (region: string) => `email-smtp.${region}.amazonaws.com:587`;
  return new Map([
    [sendmuxSes, relayIn(shards[0].region)],
    ...shards.map(({ name, region }): [string, string] => [sesRelay(name), relayIn(region)]),
    ...settings.OUTBOUND_PROVIDERS,
  ]);
}

/** Gives the names of the providers that customers may choose: those of the settings, and SES, whatever its shards. */
export function providersForCustomers(settings: ProviderSettings): string[] {
  const ofShards = new Set(sesShards(settings).map(({ name }) => sesRelay(name)));
  return [
    sendmuxSes,
    ...[...settings.OUTBOUND_PROVIDERS.keys()].filter((name) => name !== sendmuxSes && !ofShards.has(name)),
  ];
}

/** The settings of traces, by the names that OpenTelemetry has given them. Every process has them. */
export const tracingSettings = [
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'OTEL_EXPORTER_OTLP_PROTOCOL',
  'OTEL_EXPORTER_OTLP_HEADERS',
  'OTEL_EXPORTER_OTLP_TIMEOUT',
  'OTEL_EXPORTER_OTLP_COMPRESSION',
  'OTEL_EXPORTER_OTLP_CERTIFICATE',
  'OTEL_SERVICE_NAME',
  'OTEL_RESOURCE_ATTRIBUTES',
  'OTEL_TRACES_SAMPLER',
  'OTEL_TRACES_SAMPLER_ARG',
  'OTEL_PROPAGATORS',
  'OTEL_BSP_SCHEDULE_DELAY',
  'OTEL_BSP_MAX_QUEUE_SIZE',
  'OTEL_SDK_DISABLED',
] as const satisfies (keyof Settings)[];

export const settingNames = Object.keys(environment.shape) as (keyof Settings)[];

/**
 * The settings that are secrets, or change together with one. Each may be in a file, which another variable names: that
 * of the setting and `_FILE`. Such a setting follows its file.
 */
export const secretSettings = [
  'DATABASE_URL',
  'DATABASE_DIRECT_URL',
  'MAIL_SERVER_DATABASE_URL',
  'MAIL_SERVER_DATABASE_DIRECT_URL',
  'SMTP_URL',
  'KAFKA_USERNAME',
  'KAFKA_PASSWORD',
  'KAFKA_OAUTH_CLIENT_ID',
  'KAFKA_OAUTH_CLIENT_SECRET',
  'PERSONAL_DATA_KEYS',
  'WEBHOOK_SECRET_KEYS',
  'OTEL_EXPORTER_OTLP_HEADERS',
] as const satisfies readonly (keyof Settings)[];

/** Thrown by `loadSettings`; the message lists every fault, one a line. */
export class SettingsInvalid extends Error {
  override readonly name = 'SettingsInvalid';
}

/** Two settings that cannot work together; the fault is said of the first. */
type Conflict = readonly [keyof Settings, keyof Settings, (first: unknown, second: unknown) => string | undefined];

/** Refuses two settings of which only one is set. */
const together = (one: keyof Settings, other: keyof Settings): Conflict => [
  one,
  other,
  (first, second) =>
    (first === undefined) === (second === undefined)
      ? undefined
      : `is ${first === undefined ? `not set, and ${other} is` : `set, and ${other} is not`}`,
];

/** Refuses a setting that has no effect unless the other is `true`. */
const onlyWith = (one: keyof Settings, other: keyof Settings): Conflict => [
  one,
  other,
  (first, second) => (first !== undefined && !second ? `is of no use without ${other}=true` : undefined),
];

/**
 * Refuses a setting that only some mechanisms of SASL use, without one of them; and one of these without the setting.
 *
 * @param optional whether these mechanisms work without the setting.
 */
const ofMechanisms = (one: keyof Settings, mechanisms: readonly string[], optional = false): Conflict => [
  one,
  'KAFKA_SASL_MECHANISM',
  (first, mechanism) => {
    const isUsed = mechanisms.includes(mechanism as string);
    if (first !== undefined && !isUsed)
      return `is set, and is of no use without KAFKA_SASL_MECHANISM ${mechanisms.join(' or ')}`;
    return first === undefined && isUsed && !optional
      ? `is not set, and KAFKA_SASL_MECHANISM=${mechanism as string} needs it`
      : undefined;
  },
];

const byPassword = ['plain', 'scram-sha-256', 'scram-sha-512'];
const byToken = ['oauthbearer', 'aws-msk-iam'];

const conflicts: readonly Conflict[] = [
  ofMechanisms('KAFKA_USERNAME', byPassword),
  ofMechanisms('KAFKA_PASSWORD', byPassword),
  ofMechanisms('KAFKA_OAUTH_TOKEN_URL', ['oauthbearer']),
  ofMechanisms('KAFKA_OAUTH_CLIENT_ID', ['oauthbearer']),
  ofMechanisms('KAFKA_OAUTH_CLIENT_SECRET', ['oauthbearer']),
  ofMechanisms('KAFKA_OAUTH_SCOPE', ['oauthbearer'], true),
  ofMechanisms('KAFKA_AWS_REGION', ['aws-msk-iam'], true),
  [
    'KAFKA_COMPRESSION',
    'KAFKA_CLIENT',
    (compression, client) =>
      compression === 'lz4' && client === 'kafkajs'
        ? 'is lz4, which kafkajs does not have: take gzip or zstd, or KAFKA_CLIENT=platformatic'
        : undefined,
  ],
  [
    'KAFKA_SASL_MECHANISM',
    'KAFKA_TLS',
    (mechanism, tls) =>
      byToken.includes(mechanism as string) && !tls
        ? 'sends a token that whoever sees it can use: set KAFKA_TLS=true'
        : undefined,
  ],
  ...(['KAFKA_CA_FILE', 'KAFKA_CERTIFICATE_FILE', 'KAFKA_KEY_FILE'] as const).map((name) =>
    onlyWith(name, 'KAFKA_TLS'),
  ),
  together('KAFKA_CERTIFICATE_FILE', 'KAFKA_KEY_FILE'),
  together('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'),
  [
    'DOMAIN_CONNECT_PROVIDERS',
    'DOMAIN_CONNECT_KEY_FILE',
    (providers, file) =>
      (providers as readonly string[]).length > 0 && file === undefined
        ? 'is of no use without DOMAIN_CONNECT_KEY_FILE: `sendmux domain-connect key` makes one'
        : undefined,
  ],
  [
    'MAX_DOMAINS_PER_TEAM',
    'MAX_DOMAINS',
    (team, all) =>
      Number(team) < Number(all) ? undefined : 'must be below MAX_DOMAINS: no team may take the place of all others',
  ],
  [
    'AUDIT_TOPIC',
    'KAFKA_TOPIC',
    (audit, events) => (audit === events ? 'must not be KAFKA_TOPIC: seals are no events' : undefined),
  ],
];

/** Gives the file that `make start` writes with the addresses of the embedded services, and removes when they stop. */
export const embeddedSettingsFile = (dataDirectory: string): string => join(dataDirectory, 'embedded.env');

/**
 * Completes the environment with what the embedded services of `make start` wrote. A variable of the environment comes
 * first, unless it is empty; so does one that names the file of a secret.
 */
export function completeEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const file = embeddedSettingsFile(env.SENDMUX_DATA_DIR || '.sendmux');
  const embedded = existsSync(file) ? parseEnv(readFileSync(file, 'utf8')) : {};
  for (const name of secretSettings) if (env[`${name}_FILE`]) delete embedded[name];
  return { ...embedded, ...Object.fromEntries(Object.entries(env).filter(([, value]) => value !== '')) };
}

/**
 * Makes the value of a setting of its text.
 *
 * @throws {FaultyValue}
 */
function parse(name: keyof Settings, text: string | undefined): unknown {
  const parsed = environment.shape[name].safeParse(text);
  if (parsed.success) return parsed.data;
  throw new FaultyValue(
    parsed.error.issues.map(({ path: [index, field], message }) => {
      const entry = typeof index === 'number' ? ` (entry ${index + 1})` : '';
      return [name + entry, field, message].filter((word) => word !== undefined).join(' ');
    }),
  );
}

/** Thrown for a text that a setting may not have, with what is wrong with it. */
class FaultyValue extends Error {
  constructor(readonly faults: readonly string[]) {
    super(`cannot be used: ${faults.join('; ')}`);
  }
}

/**
 * Loads the settings of this process from the environment, completed with what the embedded services of `make start`
 * wrote. A secret that is in a file is read from there whenever it is used, so what keeps a copy of it does not see it
 * change.
 *
 * @param only the settings that the process needs; a fault in another one does not stop it. Absent: all.
 * @throws {SettingsInvalid} naming every fault at once.
 */
export function loadSettings<Name extends keyof Settings = keyof Settings>(
  env: NodeJS.ProcessEnv,
  only?: readonly Name[],
): Pick<Settings, Name> {
  const given = completeEnvironment(env);
  const names = only ?? (settingNames as Name[]);
  const faults: string[] = [];
  const settings: Record<string, unknown> = {};
  for (const name of names)
    try {
      Object.defineProperty(settings, name, { enumerable: true, ...load(name, given) });
    } catch (error) {
      const { faults: several = [(error as Error).message] } = error as Partial<FaultyValue>;
      faults.push(...several.map((fault) => `  ${fault}`));
    }
  for (const [first, second, faultOf] of conflicts) {
    const fault = first in settings && second in settings && faultOf(settings[first], settings[second]);
    if (fault) faults.push(`  ${first} ${fault}`);
  }
  if (faults.length === 0) return settings as Pick<Settings, Name>;
  throw new SettingsInvalid(`Settings that must be mended (docs/settings.md explains each):\n${faults.join('\n')}`);
}

/**
 * Loads one setting: its value, or what gives the value of its file.
 *
 * @throws {Error} whose message, or each of whose `faults`, says what to mend.
 */
function load(name: keyof Settings, given: NodeJS.ProcessEnv): PropertyDescriptor {
  const variable = `${name}_FILE`;
  const path = given[variable];
  if (path === undefined) return { value: parse(name, given[name]) };
  if (!secretSettings.some((secret) => secret === name))
    throw new Error(
      name.startsWith('AWS_') && name.includes('KEY')
        ? `${variable} is not read: put credentials into the file of AWS_SHARED_CREDENTIALS_FILE, which the AWS SDK reads`
        : `${variable} is not read: ${name} is no secret, and cannot be in a file`,
    );
  if (given[name] !== undefined) throw new Error(`${name} and ${variable} are both set: remove one of them`);
  const file = new SecretFile(name, path, (text) => parse(name, text));
  return { get: () => file.value };
}

/** Gives the port of an app, derived from `PORT`, which is the gateway's own. */
export const portOf = (app: keyof typeof offsets, port: number): number => port + offsets[app];

const offsets = {
  gateway: 0,
  provisioning: 1,
  'verification-scheduler': 2,
  notifier: 3,
  'event-relay': 4,
  sealer: 5,
  'sender-policy': 6,
  'sender-policy-postfix': 7,
  webhooks: 8,
  sandbox: 10,
  'sandbox-doh': 11,
  'sandbox-smtp': 12,
} as const;
