import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { SettingsInvalid, type Settings } from '@app/runtime';
import type { TopicSettings } from './kafka-driver';

export interface KafkaSettings {
  /** `host:port` */
  readonly brokers: readonly string[];
  /** False for connections without TLS. */
  readonly tls: false | TlsSettings;
  readonly sasl?: {
    readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: string;
  };
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
  ...(['KAFKA_BROKERS', 'KAFKA_TLS', 'KAFKA_CA_FILE', 'KAFKA_CERTIFICATE_FILE', 'KAFKA_KEY_FILE'] as const),
  ...(['KAFKA_SASL_MECHANISM', 'KAFKA_USERNAME', 'KAFKA_PASSWORD'] as const),
  ...(['KAFKA_TOPIC', 'KAFKA_PARTITIONS', 'KAFKA_REPLICATION'] as const),
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
  const mechanism = settings.KAFKA_SASL_MECHANISM;
  return {
    brokers: settings.KAFKA_BROKERS,
    tls: settings.KAFKA_TLS && tlsSettings(settings),
    ...(mechanism && {
      sasl: { mechanism, username: settings.KAFKA_USERNAME ?? '', password: settings.KAFKA_PASSWORD ?? '' },
    }),
  };
}

export const topicSettings = (settings: Given): TopicSettings => ({
  topic: settings.KAFKA_TOPIC,
  partitions: settings.KAFKA_PARTITIONS,
  replication: settings.KAFKA_REPLICATION,
});

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
