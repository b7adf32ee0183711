import { spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KafkaSettings } from '@app/messaging';
import { startKafka, type KafkaCluster, type KafkaOptions } from '../../local/embedded-kafka';

/** Whether Java and Maven, which the embedded Kafka needs, are installed: see tools/install-counterparts. */
export const kafkaIsInstalled = (): boolean =>
  ['java', 'mvn'].every((command) => spawnSync('which', [command]).status === 0);

export type KafkaClientName = NonNullable<KafkaSettings['client']>;

const [usual, second]: readonly KafkaClientName[] = ['kafkajs', 'platformatic'];

/** The clients that the central suites about Kafka run with: both. `KAFKA_CLIENT` in the environment takes one. */
export const kafkaClients: readonly KafkaClientName[] = process.env.KAFKA_CLIENT
  ? [process.env.KAFKA_CLIENT as KafkaClientName]
  : [usual!, second!];

/** The clients that the other suites run with: the one that is the default, and in a whole run both. */
export const kafkaClientsOfRun: readonly KafkaClientName[] = process.env.WHOLE
  ? kafkaClients
  : kafkaClients.slice(0, 1);

/** Starts a temporary cluster of real brokers; `destroy` removes it. */
export const testKafka = (
  nodes: 1 | 3 = 1,
  options: Pick<KafkaOptions, 'listeners' | 'properties'> = {},
): Promise<KafkaCluster> => startKafka({ directory: mkdtempSync(join(tmpdir(), 'sendmux-kafka-')), nodes, ...options });
