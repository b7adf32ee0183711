import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { SettingsInvalid, type Settings } from '@app/runtime';
import type { TopicSettings } from './kafka-driver';
import { mskToken } from './msk-tokens';
import { OAuthTokens } from './oauth-tokens';

export interface KafkaSettings {
  /** The client library; kafkajs when absent. */
  readonly client?: Settings['KAFKA_CLIENT'];
  /** `host:port` */
  readonly brokers: readonly string[];
  /** False for connections without TLS. */
  readonly tls: false | TlsSettings;
  readonly sasl?: PasswordSasl | TokenSasl;
  /** How records are compressed that are published; not at all when absent. */
  readonly compression?: 'none' | Compression;
}

export type Compression = 'gzip' | 'lz4' | 'zstd';

/** What is asked for user and password for each connection: both may change while the process runs. */
export interface PasswordSasl {
  readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
  readonly username: string;
  readonly password: string;
}

export interface TokenSasl {
  readonly mechanism: 'oauthbearer';
  /**
   * Gives a token that is valid now. It is called for each connection, and when the brokers want a new one.
   *
   * @throws {KafkaAway}
   * @throws {TokenRefused}
   */
  token(): Promise<string>;
}

/** Texts in PEM. */
export interface TlsSettings {
  /** Certificates of the authorities that sign those of the brokers; the ones that Node trusts when absent. */
  readonly ca?: string;
  /** The certificate by which the brokers know this client, with its key. */
  readonly cert?: string;
  readonly key?: string;
}

/** The settings that a process needs in order to publish. */
export const kafkaSettingNames = [
  ...([
    'KAFKA_CLIENT',
    'KAFKA_BROKERS',
    'KAFKA_TLS',
    'KAFKA_CA_FILE',
    'KAFKA_CERTIFICATE_FILE',
    'KAFKA_KEY_FILE',
  ] as const),
  ...(['KAFKA_SASL_MECHANISM', 'KAFKA_USERNAME', 'KAFKA_PASSWORD', 'KAFKA_AWS_REGION', 'AWS_REGION'] as const),
  ...(['KAFKA_OAUTH_TOKEN_URL', 'KAFKA_OAUTH_CLIENT_ID', 'KAFKA_OAUTH_CLIENT_SECRET', 'KAFKA_OAUTH_SCOPE'] as const),
  ...(['KAFKA_TOPIC', 'KAFKA_PARTITIONS', 'KAFKA_REPLICATION', 'KAFKA_COMPRESSION'] as const),
];

type Given = Pick<Settings, (typeof kafkaSettingNames)[number]>;

/**
 * Gives the settings of Kafka, with what is in the files that they name; undefined when events are not published to
 * Kafka.
 *
 * @throws {SettingsInvalid} when a file cannot be used.
 */
export function kafkaSettings(settings: Given): KafkaSettings | undefined {
  if (!settings.KAFKA_BROKERS) return undefined;
  const sasl = saslOf(settings);
  return {
    client: settings.KAFKA_CLIENT,
    brokers: settings.KAFKA_BROKERS,
    tls: settings.KAFKA_TLS && tlsSettings(settings),
    ...(sasl && { sasl }),
    compression: settings.KAFKA_COMPRESSION,
  };
}

export const topicSettings = (settings: Given): TopicSettings => ({
  topic: settings.KAFKA_TOPIC,
  partitions: settings.KAFKA_PARTITIONS,
  replication: settings.KAFKA_REPLICATION,
});

/** Takes what each mechanism needs as given, since `loadSettings` has refused anything else. */
function saslOf(settings: Given): KafkaSettings['sasl'] {
  const mechanism = settings.KAFKA_SASL_MECHANISM;
  if (mechanism === undefined) return undefined;
  if (mechanism === 'aws-msk-iam') {
    const region = settings.KAFKA_AWS_REGION ?? settings.AWS_REGION;
    return { mechanism: 'oauthbearer', token: () => mskToken(region) };
  }
  if (mechanism !== 'oauthbearer')
    return {
      mechanism,
      get username() {
        return settings.KAFKA_USERNAME!;
      },
      get password() {
        return settings.KAFKA_PASSWORD!;
      },
    };
  const tokens = new OAuthTokens(() => ({
    url: settings.KAFKA_OAUTH_TOKEN_URL!,
    clientId: settings.KAFKA_OAUTH_CLIENT_ID!,
    clientSecret: settings.KAFKA_OAUTH_CLIENT_SECRET!,
    ...(settings.KAFKA_OAUTH_SCOPE !== undefined && { scope: settings.KAFKA_OAUTH_SCOPE }),
  }));
  return { mechanism, token: () => tokens.token() };
}

function tlsSettings(settings: Given): TlsSettings {
  const [ca, cert, key] = (['KAFKA_CA_FILE', 'KAFKA_CERTIFICATE_FILE', 'KAFKA_KEY_FILE'] as const).map((name) => {
    const file = settings[name];
    return file === undefined ? undefined : inSetting(name, () => readFileSync(file, 'utf8'));
  });
  // Node takes a text without certificates for authorities that trust nobody.
  if (ca !== undefined) inSetting('KAFKA_CA_FILE', () => new X509Certificate(ca));
  if (cert !== undefined) inSetting('KAFKA_CERTIFICATE_FILE', () => createSecureContext({ cert, key }));
  return { ...(ca !== undefined && { ca }), ...(cert !== undefined && { cert, key }) };
}

/** @throws {SettingsInvalid} that names the setting, when `use` throws. */
function inSetting<T>(name: keyof Given, use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw new SettingsInvalid(`${name} names a file that cannot be used: ${(error as Error).message}`);
  }
}
