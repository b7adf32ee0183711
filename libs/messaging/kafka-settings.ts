import type { Settings } from '@app/runtime';
import type { TopicSettings } from './kafka-driver';

export interface KafkaSettings {
  /** `host:port` */
  readonly brokers: readonly string[];
  readonly tls: boolean;
  readonly sasl?: {
    readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: string;
  };
}

/** The settings that a process needs in order to publish. */
export const kafkaSettingNames = [
  ...(['KAFKA_BROKERS', 'KAFKA_TLS', 'KAFKA_SASL_MECHANISM', 'KAFKA_USERNAME', 'KAFKA_PASSWORD'] as const),
  ...(['KAFKA_TOPIC', 'KAFKA_PARTITIONS', 'KAFKA_REPLICATION'] as const),
];

/** Gives the settings of Kafka; undefined when events are not published to Kafka. */
export function kafkaSettings(settings: Pick<Settings, (typeof kafkaSettingNames)[number]>): KafkaSettings | undefined {
  if (!settings.KAFKA_BROKERS) return undefined;
  const mechanism = settings.KAFKA_SASL_MECHANISM;
  return {
    brokers: settings.KAFKA_BROKERS,
    tls: settings.KAFKA_TLS,
    ...(mechanism && {
      sasl: { mechanism, username: settings.KAFKA_USERNAME ?? '', password: settings.KAFKA_PASSWORD ?? '' },
    }),
  };
}

export const topicSettings = (settings: Pick<Settings, (typeof kafkaSettingNames)[number]>): TopicSettings => ({
  topic: settings.KAFKA_TOPIC,
  partitions: settings.KAFKA_PARTITIONS,
  replication: settings.KAFKA_REPLICATION,
});
