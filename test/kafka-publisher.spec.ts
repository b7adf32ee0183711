import { setTimeout as delay } from 'node:timers/promises';
import { KafkaClient, toCloudEvent, type Publisher } from '@app/messaging';
import { Logger } from '@nestjs/common';
import { checkDelivery, type Known } from './support/delivery-checker';
import type { KafkaCluster } from '../local/embedded-kafka';
import { kafkaClientsOfRun, kafkaIsInstalled, testKafka } from './support/kafka';
import { arrivalsOf } from './support/topic';
import { sample } from './support/sample';

const partitions = 12;
const streams = 60;

/** Runs on three real brokers. Skipped where Java or Maven is missing: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip)('a publisher whose brokers are killed', () => {
  let kafka: KafkaCluster;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    kafka = await testKafka(3);
  });
  afterAll(() => kafka?.destroy(), 60_000);

  it.each(kafkaClientsOfRun)(
    'on %s loses nothing that it has reported, and keeps the order of every key',
    async (library) => {
      const topic = `events-${library}`;
      const client = new KafkaClient({ client: library, brokers: kafka.brokers, tls: false }, 'test');
      const admin = await client.admin();
      await admin.ensureTopic({ topic, partitions, replication: 3 });
      await admin.close();

      let kills = 0;
      let over = false;
      const killing = (async () => {
        while (kills < sample(4, 6)) {
          await delay(1_500);
          const node = kills++ % 3;
          await kafka.kill(node);
          await delay(2_500);
          await kafka.startNode(node);
        }
        over = true;
      })();

      // As in the relay, a whole batch that may not have arrived is sent again by a new producer.
      const published: Known[] = [];
      let again = 0;
      let publisher: Publisher | undefined;
      for (let version = 1; !over; version++) {
        const batch = Array.from({ length: streams }, (_, index) => ({
          position: version * streams + index,
          stream: `s${index}`,
          version,
          type: 'Happened',
          schemaVersion: 1,
          data: {},
          time: '2026-11-01T00:00:00.000Z',
          metadata: { actor: 'test', correlationId: 'c' },
        }));
        for (;;) {
          try {
            publisher ??= await client.publisher(topic, partitions);
            await publisher.send(batch.map(toCloudEvent));
            break;
          } catch {
            again++;
            await publisher?.close().catch(() => undefined);
            publisher = undefined;
            await delay(100);
          }
        }
        published.push(...batch.map(({ stream }) => ({ id: `${stream}/${version}`, stream, version })));
      }
      await killing;
      await publisher?.close();
      const faults = checkDelivery(published, await arrivalsOf(kafka.brokers, topic), published, []);
      console.log(
        `${library}: ${published.length} events, ${kills} kills, ${again} sends again, ${faults.duplicated} duplicates`,
      );
      // How many there are depends on the machine; so many meet every kill.
      expect(published.length).toBeGreaterThan(2_000);
      expect(again).toBeGreaterThan(0);
      expect(faults).toMatchObject({ lost: 0, reordered: 0, scattered: 0, invented: 0 });
    },
  );
});
