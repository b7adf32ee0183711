import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openPool } from '@app/database';
import { stalledMs } from '@app/messaging';
import { portOf } from '@app/runtime';
import { Kafka, logLevel, type IHeaders } from 'kafkajs';
import type { KafkaCluster } from '../local/embedded-kafka';
import { kafkaClientsOfRun, kafkaIsInstalled, testKafka } from './support/kafka';
import { startSystem, type AppName, type System } from './support/processes';

/** The whole system on a real Kafka. Skipped where Java or Maven is missing: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip).each(kafkaClientsOfRun)('on Kafka through %s', (library) => {
  let kafka: KafkaCluster;
  let system: System;

  beforeAll(async () => {
    kafka = await testKafka();
    system = await startSystem({ brokers: kafka.brokers, env: { PROVISIONING_DEADLINE: '2m', KAFKA_CLIENT: library } });
  });
  afterAll(async () => {
    await system?.end();
    await kafka?.destroy();
  });

  const ask = (app: AppName, path: string) => fetch(`http://127.0.0.1:${portOf(app, system.port)}${path}`);
  const metric = async (app: AppName, name: string) => {
    const text = await (await ask(app, '/metrics')).text();
    return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1]);
  };

  it('each process reports its health and its metrics', async () => {
    const { api } = await system.team();
    expect((await api.add('mail.acme.com')).status).toBe(201);
    for (const app of ['event-relay', 'provisioning', 'verification-scheduler', 'notifier'] as const)
      for (const path of ['/health/live', '/health/ready']) expect((await ask(app, path)).status).toBe(200);
    await system.until(
      'the relay has caught up',
      async () => (await metric('event-relay', 'sendmux_relay_behind')) === 0,
    );
    expect(await metric('event-relay', 'sendmux_relay_published_total')).toBe(2);
    expect(await metric('event-relay', 'sendmux_relay_publish_seconds_count')).toBeGreaterThanOrEqual(1);
    // The add, and that the domain is provisioned.
    await system.until(
      'provisioning has handled both events',
      async () => (await metric('provisioning', 'sendmux_events_handled_total')) === 2,
    );
    await system.until(
      'provisioning is up to date',
      async () => (await metric('provisioning', 'sendmux_events_behind')) === 0,
    );
    for (const name of ['sendmux_events_parked_total', 'sendmux_events_retried_total', 'sendmux_parked_messages'])
      expect(await metric('provisioning', name)).toBe(0);
  });

  it('a message that cannot be handled is parked, and can be listed, shown and redriven, while the rest continues', async () => {
    const producer = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).producer();
    await producer.connect();
    const send = (headers: IHeaders, value: string) =>
      producer.send({
        topic: system.settings.KAFKA_TOPIC!,
        messages: [{ key: 'mdom_x', partition: 0, headers, value }],
      });
    await send({}, 'not ours');
    await send(
      {
        ce_specversion: '1.0',
        ce_id: 'mdom_x/1',
        ce_source: '/sendmux-domains',
        ce_type: 'com.sendmux.DomainMoved',
        ce_dataschema: 'urn:sendmux:event:DomainMoved:1',
        ce_time: '2026-11-01T00:00:00.000Z',
        ce_subject: 'mdom_x',
        ce_sequence: '0000000000000001',
        ce_streamversion: '1',
        ce_actor: 'a',
        ce_correlationid: 'c',
      },
      '{}',
    );
    await producer.disconnect();
    await system.until('both are parked', async () => (await metric('notifier', 'sendmux_parked_messages')) === 2);

    const { api } = await system.team();
    expect((await api.add('after.acme.com')).status).toBe(201);

    const listed = sendmux('parked', 'list', '--group', 'notifier');
    expect(listed.stdout).toMatch(/^notifier +\S+\/0\/\d+ +1 +.*no header ce_specversion/m);
    expect(listed.stdout).toMatch(/^notifier +mdom_x\/1 +DomainMoved +1 /m);
    expect(sendmux('parked', 'show', 'notifier', 'mdom_x/1').stdout).toContain(
      'No event type DomainMoved is known here',
    );
    const raw = /^notifier +(\S+\/0\/\d+)/m.exec(listed.stdout)![1]!;
    expect(sendmux('parked', 'show', 'notifier', raw).stdout).toContain('"value": "not ours"');
    expect(sendmux('parked', 'show', 'notifier', 'mdom_y/1')).toMatchObject({
      status: 1,
      stderr: 'sendmux: notifier has parked no message mdom_y/1. `sendmux parked list` shows all.\n',
    });
    const redriven = sendmux('parked', 'redrive', 'notifier', '--all');
    expect(redriven.status).toBe(1);
    expect(redriven.stderr).toMatch(
      /mdom_x\/1 failed again, and stays parked: CannotBeHandled: No event type DomainMoved/,
    );
    expect(sendmux('parked', 'redrive', 'notifier')).toMatchObject({ status: 2 });
    expect(await metric('notifier', 'sendmux_parked_messages')).toBe(2);
  });

  it('N2: 60,000 octets at SPF and at DMARC each pass the relay, within the limits of an event and of an answer', async () => {
    const { api } = await system.team();
    const { id } = ((await api.add('hostile.acme.com')).body as { data: { id: string } }).data;
    // Two octets in UTF-8, both above ASCII.
    await system.sandbox.set('hostile.acme.com', 'TXT', [`v=spf1 ${'é'.repeat(30_000)}`]);
    await system.sandbox.set('_dmarc.hostile.acme.com', 'TXT', [`v=DMARC1; p=${'é'.repeat(30_000)}`]);
    const answer = await api.verify(id);
    expect(answer.status).toBe(200);
    const text = JSON.stringify(answer.body);
    expect(text).toContain('… (cut: 60007 octets, SHA-256 ');
    expect(Buffer.byteLength(text)).toBeLessThan(300_000);
    await system.until('it is published', async () => (await metric('event-relay', 'sendmux_relay_behind')) === 0);
    expect(await metric('event-relay', 'sendmux_parked_messages')).toBe(0);
    expect((await ask('event-relay', '/health/live')).status).toBe(200);
  });

  it('without brokers, processes are not ready but alive, and the API accepts requests', async () => {
    const { api } = await system.team();
    await kafka.kill(0);
    const adding = api.add('meanwhile.acme.com');
    for (const app of ['event-relay', 'provisioning'] as const)
      await system.until(`${app} is not ready`, async () => (await ask(app, '/health/ready')).status === 503);
    await delay(1_000);
    for (const app of ['gateway', 'event-relay', 'provisioning', 'notifier'] as const)
      expect((await ask(app, '/health/live')).status).toBe(200);
    expect((await ask('gateway', '/health/ready')).status).toBe(200);
    await kafka.startNode(0);
    expect((await adding).status).toBe(201);
    for (const app of ['event-relay', 'provisioning', 'notifier'] as const)
      await system.until(`${app} is ready`, async () => (await ask(app, '/health/ready')).status === 200);
  });

  it('a consumer whose tables somebody holds for long is behind, and live: a restart would not help', async () => {
    const { api } = await system.team();
    const pool = openPool(system.databaseUrl, 1);
    const client = await pool.connect();
    try {
      await client.query('BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE');
      const adding = api.add('held.acme.com');
      const heldUntil = Date.now() + stalledMs + 5_000;
      for (; Date.now() < heldUntil; await delay(1_000))
        expect((await ask('provisioning', '/health/live')).status).toBe(200);
      await client.query('ROLLBACK');
      await adding;
    } finally {
      client.release(true);
      await pool.end();
    }
  });

  it('a stopping process does not wait for unavailable brokers', async () => {
    const apps = ['event-relay', 'provisioning', 'verification-scheduler', 'notifier'] as const;
    await kafka.kill(0);
    // The pauses differ so that processes stop in different phases: after a first failed request, and between two
    // retries.
    await Promise.all(
      apps.map(async (app, index) => {
        await delay(1_000 * index);
        // A process that waited for its brokers would wait for ever: they are started after this.
        await system.stop(app);
      }),
    );
    await kafka.startNode(0);
    await Promise.all(apps.map((app) => system.start(app)));
  });

  it('a permanent failure ends the process, and its last line says why', async () => {
    for (const app of ['event-relay', 'notifier'] as const) {
      await system.stop(app);
      // The broker has no SASL, so no attempt can succeed.
      const credentials = { KAFKA_SASL_MECHANISM: 'plain', KAFKA_USERNAME: 'a', KAFKA_PASSWORD: 'b' };
      await expect(system.start(app, credentials)).rejects.toThrow(new RegExp(`^${app} ended with 1`));
      const last = JSON.parse(system.log(app).trim().split('\n').at(-1)!) as { level: number; msg: string };
      expect(last.level).toBe(60);
      expect(last.msg).toMatch(
        /cannot go on, and ends its process: .*Request is not valid given the current SASL state/,
      );
      await system.start(app);
    }
  });

  it('event-relay without Kafka ends with an explanation', () => {
    const { status, stderr } = spawnSync(process.execPath, [resolve(__dirname, '../dist/apps/event-relay/main.js')], {
      encoding: 'utf8',
      env: { ...system.settings, KAFKA_BROKERS: '' },
    });
    expect(status).toBe(1);
    expect(stderr).toBe(
      'event-relay cannot start.\nKAFKA_BROKERS is not set: event-relay carries the events to Kafka. Without Kafka it is not needed; to try it: make start KAFKA=1\n',
    );
  });

  const sendmux = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(resolve(__dirname, '../bin/sendmux'), args, {
      encoding: 'utf8',
      env: system.settings,
    });
    return { status, stdout, stderr };
  };
});
