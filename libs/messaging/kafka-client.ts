import type { GroupMember, KafkaAdmin, KafkaDriver, Publisher, Reading } from './kafka-driver';
import type { KafkaSettings } from './kafka-settings';

/** Opens the connections of one process to one cluster, by a driver that is loaded with the first connection. */
export class KafkaClient implements KafkaDriver {
  private loading: Promise<KafkaDriver> | undefined;

  constructor(
    private readonly settings: KafkaSettings,
    private readonly clientId: string,
  ) {}

  /** @throws {KafkaAway} */
  async admin(): Promise<KafkaAdmin> {
    return (await this.driver()).admin();
  }

  /** @throws {KafkaAway} */
  async publisher(topic: string, partitions: number): Promise<Publisher> {
    return (await this.driver()).publisher(topic, partitions);
  }

  /** @throws {KafkaAway} */
  async member(group: string, topic: string, reading: Reading): Promise<GroupMember> {
    return (await this.driver()).member(group, topic, reading);
  }

  private driver(): Promise<KafkaDriver> {
    return (this.loading ??= load(this.settings, this.clientId));
  }
}

async function load(settings: KafkaSettings, clientId: string): Promise<KafkaDriver> {
  if (settings.client === 'platformatic') {
    const { PlatformaticDriver } = await import('./platformatic-driver.js');
    return new PlatformaticDriver(settings, clientId);
  }
  const { KafkajsDriver } = await import('./kafkajs-driver.js');
  return new KafkajsDriver(settings, clientId);
}
