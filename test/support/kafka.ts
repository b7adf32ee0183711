import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KafkaSettings } from '@app/messaging';
import { startKafka, type KafkaCluster, type KafkaOptions } from '../../local/embedded-kafka';
import { variantsOfRun } from './sample';

/** Whether Java and Maven, which the embedded Kafka needs, are installed: see tools/install-counterparts. */
export const kafkaIsInstalled = (): boolean =>
  ['java', 'mvn'].every((command) => spawnSync('which', [command]).status === 0);

export type KafkaClientName = NonNullable<KafkaSettings['client']>;

/** The clients that the suite of the drivers runs with: both. `KAFKA_CLIENT` in the environment takes one. */
export const kafkaClients: readonly KafkaClientName[] = process.env.KAFKA_CLIENT
  ? [process.env.KAFKA_CLIENT as KafkaClientName]
  : ['kafkajs', 'platformatic'];

/** The clients that the other suites run with. */
export const kafkaClientsOfRun = variantsOfRun(kafkaClients, 1);

/** Starts a temporary cluster of real brokers; `destroy` removes it. */
export const testKafka = (
  nodes: 1 | 3 = 1,
  options: Pick<KafkaOptions, 'listeners' | 'properties'> = {},
): Promise<KafkaCluster> => startKafka({ directory: mkdtempSync(join(tmpdir(), 'sendmux-kafka-')), nodes, ...options });

/** A Kafka that other suites use at the same time: topics and groups need names of their own, and nobody stops it. */
export type SharedKafka = Pick<KafkaCluster, 'brokers'>;

/** Gives the Kafka that the suites of this Jest run share. */
export async function sharedKafka(): Promise<SharedKafka> {
  const answer = await fetch(process.env.TEST_KAFKA_URL!);
  if (!answer.ok) throw new Error(await answer.text());
  return { brokers: (await answer.json()) as string[] };
}

/** Makes the name of a topic or a group that no other suite has. */
export const uniqueName = (of: string): string => `${of}-${randomUUID()}`;
