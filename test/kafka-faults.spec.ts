import { setTimeout as delay } from 'node:timers/promises';
import { openPool } from '@app/database';
import type { RecordedEvent } from '@app/event-store';
import { schemaVersions } from '@app/mail-domain';
import { EventConsumer, KafkaClient, KafkaTransport } from '@app/messaging';
import { Logger, Module, type INestMicroservice } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Payload, type MicroserviceOptions } from '@nestjs/microservices';
import type { Pool } from 'pg';
import { checkDelivery, type Known } from './support/delivery-checker';
import type { KafkaCluster } from '../local/embedded-kafka';
import { kafkaClientsOfRun, kafkaIsInstalled, testKafka } from './support/kafka';
import { startSystem, type ApiClient, type System } from './support/processes';
import { sample } from './support/sample';
import { arrivalsOf } from './support/topic';

/** Ten thousand requests in total, in a whole run. */
const [adds, checks] = [sample(300, 5_000), sample(300, 5_000)];
/** Adds of the minute in which no broker runs, when the writers may be done with theirs. */
const lateAdds = 10;
const writers = 24;

/**
 * The whole system on three real brokers. One broker is killed, another is restarted, and then all are down for a
 * minute; meanwhile the relay is killed repeatedly. Skipped where Java or Maven is missing: see
 * tools/install-counterparts.
 */
(kafkaIsInstalled() ? describe : describe.skip).each(kafkaClientsOfRun)('while Kafka breaks, on %s', (library) => {
  let kafka: KafkaCluster;
  let system: System;
  let api: ApiClient;
  let pool: Pool;
  let witness: INestMicroservice;
  /** The events that a consumer of every event has handled, in order. */
  const handled: Known[] = [];

  beforeAll(async () => {
    Logger.overrideLogger(false);
    kafka = await testKafka(3);
    system = await startSystem({
      brokers: kafka.brokers,
      env: {
        SES_CALLS_PER_SECOND: '10000',
        RATE_LIMIT_PER_MINUTE: '10000000',
        LOG_LEVEL: 'warn',
        // The deadline is longer than the outage of the brokers, so that the adds of that minute are delayed but not
        // refused.
        PROVISIONING_DEADLINE: '4m',
        VERIFICATION_INTERVAL: '24h',
        KAFKA_REPLICATION: '3',
        KAFKA_CLIENT: library,
      },
    });
    ({ api } = await system.team());

    @EventConsumer()
    class Witness {
      @EventPattern<string[]>(Object.keys(schemaVersions))
      see(@Payload() { stream, version }: RecordedEvent): void {
        handled.push({ id: `${stream}/${version}`, stream, version });
      }
    }
    @Module({ controllers: [Witness] })
    class WitnessModule {}
    pool = openPool(system.databaseUrl, 4);
    witness = await NestFactory.createMicroservice<MicroserviceOptions>(WitnessModule, {
      strategy: new KafkaTransport({
        pool,
        schemaVersions,
        group: 'witness',
        groupId: 'witness',
        topic: system.settings.KAFKA_TOPIC!,
        client: new KafkaClient({ client: library, brokers: kafka.brokers, tls: false }, 'witness'),
      }),
    });
    await witness.listen();
  });
  afterAll(async () => {
    await witness?.close();
    await pool?.end();
    await system?.end();
    await kafka?.destroy();
  });

  it('loses nothing, keeps the order of every domain, and does everything once', async () => {
    const ids: string[] = [];
    const refused: unknown[] = [];
    let [begun, checked] = [0, 0];
    const add = async (name: string) => {
      const answer = await api.add(name);
      if (answer.status === 201) ids.push((answer.body as { data: { id: string } }).data.id);
      else refused.push(answer.body);
    };
    const work = Promise.all(
      Array.from({ length: writers }, async () => {
        while (begun < adds) await add(`mail-${begun++}.acme.com`);
        while (checked < checks) {
          const id = ids[checked++ % ids.length]!;
          const answer = await api.verify(id);
          if (answer.status !== 200) refused.push(answer.body);
        }
      }),
    );
    const done = (share: number) =>
      system.until(`${share} of the work is done`, () => ids.length + checked >= (adds + checks) * share, 300_000);

    // One broker is killed while requests are running, and starts again much later.
    await done(0.1);
    await kafka.kill(0);
    await done(0.2);
    // One of the remaining two is restarted. Meanwhile the other accepts no records, since two brokers must store each.
    await kafka.stopNode(1);
    await kafka.startNode(1);
    await done(0.25);
    await kafka.startNode(0);
    await relayDies();
    await done(0.4);
    // All brokers are down for a while, which is longer than a consumer may stand still: a minute in a whole run.
    await Promise.all([0, 1, 2].map((node) => kafka.kill(node)));
    const before = await position();
    const late = Promise.all(Array.from({ length: lateAdds }, (_, i) => add(`late-${i}.acme.com`)));
    await delay(sample(45_000, 60_000));
    // The API accepts requests during the outage.
    expect(await position()).toBeGreaterThanOrEqual(before + lateAdds);
    const alive = await Promise.all(
      ([0, 1, 3, 4] as const).map(
        async (app) => (await fetch(`http://127.0.0.1:${system.port + app}/health/live`)).status,
      ),
    );
    expect(alive).toEqual([200, 200, 200, 200]);
    await Promise.all([0, 1, 2].map((node) => kafka.startNode(node)));
    await relayDies();
    // The creations are read now, because the sandbox only keeps its last ten thousand calls.
    await system.until('every domain is added', () => ids.length + refused.length >= adds + lateAdds, 300_000);
    const creations = await creationsInSes();
    await done(0.6);
    await relayDies();
    await Promise.all([work, late]);
    expect(refused).toEqual([]);
    expect(ids).toHaveLength(adds + lateAdds);

    const topic = system.settings.KAFKA_TOPIC!;
    const committed = await events();
    await system.until('the relay has caught up', async () => (await checkpoint()) >= (await position()), 120_000);
    const arrivals = await arrivalsOf(kafka.brokers, topic, 120_000);
    const allAreSeen = () => {
      const seen = new Set(handled.map(({ id }) => id));
      return arrivals.every(({ id }) => seen.has(id));
    };
    await system.until('the witness has seen every event', allAreSeen, 120_000);
    const effects = creations.map(({ name }) => name);
    const faults = {
      ...checkDelivery(committed, arrivals, handled, effects),
      // The cycle goes on and records: the topic may have what the log had not yet.
      invented: checkDelivery(await events(), arrivals, handled, effects).invented,
    };
    console.log(`${library}: ${committed.length} events; ${faults.duplicated} records beyond the first of an event`);
    expect({ ...faults, duplicated: 0 }).toEqual({
      lost: 0,
      duplicated: 0,
      reordered: 0,
      scattered: 0,
      invented: 0,
      unseen: 0,
      handledOutOfOrder: 0,
      repeatedEffects: 0,
    });

    // Each consumer has handled every event, and no effect happened twice.
    expect(creations).toHaveLength(adds + lateAdds);
    expect(new Set(creations.map(({ name }) => name)).size).toBe(adds + lateAdds);
    const last = creations.at(-1)!.at;
    expect((await creationsInSes()).filter(({ at }) => at > last)).toEqual([]);
    await system.until('the scheduler watches every domain', async () => (await watched()) === adds + lateAdds);
    expect(await rows('SELECT count(*)::int AS count FROM parked_messages')).toEqual([{ count: 0 }]);
    for (const app of ['gateway', 'provisioning', 'verification-scheduler', 'notifier', 'event-relay'] as const)
      expect(system.runs(app)).toBe(true);
  }, 900_000);

  async function relayDies(): Promise<void> {
    for (let times = 0; times < sample(2, 4); times++) {
      await system.kill('event-relay');
      await system.start('event-relay');
      await delay(Math.random() * 1_500);
    }
  }

  const creationsInSes = async () =>
    (await system.sandbox.sesCalls()).filter(({ operation }) => operation === 'CreateEmailIdentity');

  async function rows<Row extends object>(text: string): Promise<Row[]> {
    const pool = openPool(system.databaseUrl, 1);
    try {
      return (await pool.query<Row>(text)).rows;
    } finally {
      await pool.end();
    }
  }
  const one = async (text: string) => Number((await rows<{ value: string }>(text))[0]?.value ?? 0);
  const position = () => one('SELECT max(position) AS value FROM events');
  const checkpoint = () => one("SELECT position AS value FROM checkpoints WHERE name LIKE 'event-relay %'");
  const watched = () => one('SELECT count(*) AS value FROM watched_domains');
  const events = () =>
    rows<Known>("SELECT stream || '/' || version AS id, stream, version FROM events ORDER BY position");
});
