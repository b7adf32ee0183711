import { spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startKafka, type KafkaCluster, type KafkaOptions } from '../../local/embedded-kafka';

/** Whether Java and Maven, which the embedded Kafka needs, are installed: see tools/install-counterparts. */
export const kafkaIsInstalled = (): boolean =>
  ['java', 'mvn'].every((command) => spawnSync('which', [command]).status === 0);

/** Starts a temporary cluster of real brokers; `destroy` removes it. */
export const testKafka = (
  nodes: 1 | 3 = 1,
  options: Pick<KafkaOptions, 'listeners' | 'properties'> = {},
): Promise<KafkaCluster> => startKafka({ directory: mkdtempSync(join(tmpdir(), 'sendmux-kafka-')), nodes, ...options });
