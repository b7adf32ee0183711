import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { openPool } from '@app/database';
import { WebhookDeliveries, WebhookLanes } from '@app/webhooks';
import { startEndpoint, type TestEndpoint } from '../../test/support/endpoint';
import { migratedDatabase } from '../../test/support/migrated-database';
import { sample } from '../../test/support/sample';
import { addWebhook, messageOf, webhookKeys } from '../../test/support/webhooks';
import { EndpointClient } from './endpoint-client';
import { LaneWorkers } from './lane-workers';
import { retryTimes } from './retry-times';

const [good, dead, slow] = [60, 20, 20];
const timeoutMs = sample(2_000, 15_000);
const rounds = sample(1, 6);
const events = sample(12, 60);
const everyMs = 150;
/** How often the slowest hundredth may take longer beside endpoints that are dead or slow. */
const allowed = sample(1.6, 1.2);
/** Milliseconds that a busy machine adds here and there. */
const noiseMs = sample(100, 0);

it(`${good} endpoints get their messages as fast beside ${dead} that are dead and ${slow} that are slow`, async () => {
  Logger.overrideLogger(false);
  const database = await migratedDatabase('service');
  const pool = openPool(database.url);
  const endpoints: TestEndpoint[] = [];
  const start = async (answer?: TestEndpoint['answer']) => {
    const endpoint = await startEndpoint();
    if (answer) endpoint.answer = answer;
    endpoints.push(endpoint);
    return endpoint;
  };
  const workers = new LaneWorkers({
    lanes: new WebhookLanes(pool),
    keys: webhookKeys,
    client: new EndpointClient({ resolvers: [], allowLoopback: true, timeoutMs, slowMs: timeoutMs / 8 }),
    messages: {
      bodies: (wanted) =>
        Promise.resolve(new Map(wanted.map(({ message }) => [message, Buffer.from('{}'.repeat(1_000))]))),
      testBody: () => Buffer.from('{}'),
    },
    // The first of these would be taken by those that hang, if they could.
    tries: { steady: 24, troubled: 8, down: 8, all: 200 },
    times: { ...retryTimes, waitsMs: Array<number>(20).fill(300), pause: { baseMs: 300, capMs: 600 } },
  });
  const deliveries = new WebhookDeliveries(pool, (added) => workers.wake(added));
  let version = 0;
  try {
    const fair = await Promise.all(Array.from({ length: good }, () => start()));
    for (const { url } of fair) await addWebhook(pool, { url });
    const bad: string[] = [];
    for (let i = 0; i < dead + slow; i++) {
      const { url } = await start((_, response) => {
        if (i >= dead) setTimeout(() => response.writeHead(204).end(), timeoutMs / 2);
      });
      bad.push((await addWebhook(pool, { url, enabled: false })).id);
    }
    workers.run();

    const round = async (): Promise<number[]> => {
      const sent = new Map<string, number>();
      for (const endpoint of fair) endpoint.arrivals.length = 0;
      for (let i = 0; i < events; i++) {
        const message = messageOf(`mdom_${++version % 40}`, version);
        sent.set(message.message, performance.now());
        await deliveries.enqueue(message);
        await delay(everyMs);
      }
      const begun = performance.now();
      while (fair.some(({ arrivals }) => arrivals.length < events)) {
        if (performance.now() - begun > 20_000) throw new Error('not all messages have arrived');
        await delay(5);
      }
      return fair.flatMap(({ arrivals }) => arrivals.map(({ id, at }) => at - sent.get(id)!));
    };
    const enable = (enabled: boolean) =>
      pool.query('UPDATE webhooks SET enabled = $2 WHERE id = ANY ($1)', [bad, enabled]);
    const p99 = (delays: number[]) => delays.sort((a, b) => a - b)[Math.floor(delays.length * 0.99)]!;

    await round();
    const [without, beside]: number[][] = [[], []];
    for (let i = 0; i < rounds; i++) {
      without!.push(...(await round()));
      await enable(true);
      // Their first tries hang by then.
      await deliveries.enqueue(messageOf('mdom_0', ++version));
      await delay(timeoutMs / 4);
      beside!.push(...(await round()));
      await enable(false);
      if (i < rounds - 1) await delay(timeoutMs);
    }
    const figures = { without: Math.round(p99(without!)), beside: Math.round(p99(beside!)) };
    process.stdout.write(
      `p99 from commit to arrival: ${figures.without} ms without them, ${figures.beside} ms beside\n`,
    );
    expect(endpoints.slice(good).every(({ arrivals }) => arrivals.length > 0)).toBe(true);
    expect(figures.beside).toBeLessThan(allowed * figures.without + noiseMs);
  } finally {
    await workers.stop(0);
    await Promise.all(endpoints.map((endpoint) => endpoint.close()));
    await pool.end();
    await database.drop();
  }
}, 600_000);
