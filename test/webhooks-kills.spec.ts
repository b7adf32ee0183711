import { setTimeout as delay } from 'node:timers/promises';
import { DomainCommandHandler } from '@app/commands';
import { isPassingFault, openClient, openPool } from '@app/database';
import { AppendUnanswered, EventLog, EventStore, eventId } from '@app/event-store';
import { AddDomain, CompleteProvisioning, RecordCheck, type DomainCommand } from '@app/mail-domain';
import { checkNames, type Finding } from '@app/mail-records';
import { announcedEvents, WebhookMessages } from '@app/presentation';
import { domainsProjection } from '@app/read-model';
import { newId } from '@app/runtime';
import { Logger } from '@nestjs/common';
import type { Pool } from 'pg';
import type { KafkaCluster } from '../local/embedded-kafka';
import { commandsTo } from './support/commands';
import { DatabaseProxy } from './support/database-proxy';
import { kafkaClientsOfRun, kafkaIsInstalled, testKafka, type KafkaClientName } from './support/kafka';
import { mailboxKeysIn } from './support/mailbox-keys';
import { numbers } from './support/numbers';
import { startSystem, type System } from './support/processes';
import { sample, variantsOfRun } from './support/sample';
import { checkWebhooks, type ExpectedMessage } from './support/webhook-checker';
import { WebhookReceiver } from './support/webhook-receiver';
import { addWebhook, webhookSecretKeys } from './support/webhooks';

const seed = Number(process.env.SEED ?? 20);
const domains = sample(20, 50);
const looks = sample(10, 19);
/** Milliseconds between two commands of the writer, so that all of them last longer than what breaks. */
const paceMs = sample(40, 60);

beforeAll(() => {
  Logger.overrideLogger(false);
});

/** Writes the lives of domains that are verified and lapse in turn; each command gives one message. */
class Writer {
  private readonly pool: Pool;
  private readonly commands;

  constructor(
    url: string,
    private readonly team: string,
  ) {
    this.pool = openPool(url, 4);
    this.commands = commandsTo(new DomainCommandHandler(new EventStore(this.pool, domainsProjection)));
  }

  async write(): Promise<void> {
    const ids = Array.from({ length: domains }, () => newId('mdom'));
    for (const id of ids)
      await this.untilDone((context) => {
        const data = { name: `${id.slice(-20)}.example.com`, team: this.team, deadline: context.at };
        return new AddDomain(id, data, context);
      });
    for (const id of ids)
      await this.untilDone((context) => {
        const dkimTokens = ['a', 'b', 'c'];
        const identity = { dkimTokens, dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1' };
        return new CompleteProvisioning(id, { ...identity, sesDkimStatus: 'pending' }, context);
      });
    for (let look = 0; look < looks; look++)
      for (const id of ids) {
        await this.untilDone((context) => new RecordCheck(id, lookOf(look % 2 === 0), context));
        await delay(paceMs);
      }
  }

  close(): Promise<void> {
    return this.pool.end();
  }

  /** Repeats a command while PostgreSQL is away. A repetition of one that was carried out changes nothing. */
  private async untilDone(
    make: (context: { at: string; actor: string; correlationId: string }) => DomainCommand,
  ): Promise<void> {
    for (;;)
      try {
        await this.commands.execute(
          make({ at: new Date().toISOString(), actor: 'key_1', correlationId: newId('req') }),
        );
        return;
      } catch (error) {
        if (!(error instanceof AppendUnanswered) && !isPassingFault(error)) throw error;
        await delay(50);
      }
  }
}

const lookOf = (passes: boolean) => ({
  findings: checkNames.map((check): Finding => {
    const outcome = passes ? 'pass' : 'fail';
    return { check, outcome, code: 'ok', message: 'm', name: 'n', type: 'TXT', expected: 'e', observed: [] };
  }),
  sesDkimStatus: 'success' as const,
  trigger: 'requested' as const,
  cycle: null,
});

/** Gives the messages that the log tells of. */
async function messagesOf(pool: Pool): Promise<ExpectedMessage[]> {
  const log = new EventLog(pool);
  const messages = new WebhookMessages(pool, mailboxKeysIn(pool));
  const expected: ExpectedMessage[] = [];
  for (let after = 0, head = await log.head(); after < head;) {
    const { events, settledUpTo } = await log.read({ after, limit: 1_000 });
    const announced = events.filter(({ type }) => (announcedEvents as readonly string[]).includes(type));
    const types = await Promise.all(announced.map((event) => messages.typeOf(event)));
    expected.push(
      ...announced
        .filter((_, i) => types[i])
        .map((event) => ({ id: eventId(event), subject: event.stream, version: event.version })),
    );
    after = settledUpTo;
  }
  await log.close();
  return expected;
}

/** What breaks while the writer writes: the process at any time, PostgreSQL, and Kafka where there is one. */
async function breakThings(
  { system, database, kafka }: { system: System; database: DatabaseProxy; kafka: KafkaCluster | undefined },
  isOver: () => boolean,
): Promise<number> {
  const next = numbers(seed);
  const outages: (() => Promise<unknown>)[] = [
    async () => {
      database.away();
      await delay(sample(2_000, 10_000));
      await database.back();
    },
    ...(kafka
      ? [
          async () => {
            await kafka.kill(0);
            await delay(sample(2_000, 20_000));
            await kafka.startNode(0);
          },
        ]
      : []),
  ];
  let kills = 0;
  while (!isOver() || outages.length > 0) {
    await delay(300 + next() * 1_500);
    await system.kill('webhooks');
    kills++;
    await system.start('webhooks', { DATABASE_URL: database.url });
    // The leases of the process that has died end by themselves after a while, for which a usual run does not wait.
    if (!process.env.WHOLE) await endLeases(system.databaseUrl);
    await outages.shift()?.();
  }
  return kills;
}

async function endLeases(url: string): Promise<void> {
  const client = await openClient({ connectionString: url });
  await client.query('UPDATE webhook_lanes SET lease_until = now() WHERE lease_until > now()');
  await client.end();
}

async function survives(kafka?: KafkaCluster, library?: KafkaClientName): Promise<void> {
  const system = await startSystem({
    apps: [],
    ...(kafka && { brokers: kafka.brokers }),
    env: {
      WEBHOOK_SECRET_KEYS: webhookSecretKeys,
      WEBHOOKS_ALLOW_LOOPBACK: 'true',
      LOG_LEVEL: 'warn',
      ...(library && { KAFKA_CLIENT: library }),
    },
  });
  const pool = openPool(system.databaseUrl, 4);
  const { id: team } = await system.team();
  const writer = new Writer(system.databaseUrl, team);
  const receivers = await Promise.all([WebhookReceiver.open(), WebhookReceiver.open()]);
  const database = await DatabaseProxy.open(system.databaseUrl);
  try {
    const apps = kafka ? (['webhooks', 'event-relay'] as const) : (['webhooks'] as const);
    await Promise.all(apps.map((app) => system.start(app, { DATABASE_URL: database.url })));
    const next = numbers(seed);
    for (const receiver of receivers)
      receiver.secrets.push((await addWebhook(pool, { team, url: receiver.url })).secret);
    // The second is slow, so that tries of several subjects are under way when the process dies.
    receivers[1].answer = async () => (await delay(next() * 200), 200);

    let isWritten = false;
    const written = writer.write().finally(() => (isWritten = true));
    const kills = await breakThings({ system, database, kafka }, () => isWritten);
    await written;

    const expected = await messagesOf(pool);
    expect(expected.length).toBe(domains * (looks + 1));
    await system.until(
      'every message has arrived',
      () => receivers.every(({ received }) => new Set(received.map(({ id }) => id)).size >= expected.length),
      sample(60_000, 300_000),
    );
    const said = receivers.map(({ received }) => received.length - expected.length);
    console.log(`${expected.length} messages to each of two endpoints, ${kills} kills, ${said.join(' and ')} again`);
    expect(kills).toBeGreaterThanOrEqual(2);
    for (const { received } of receivers)
      expect(checkWebhooks(expected, received)).toEqual({
        lost: [],
        reordered: [],
        altered: [],
        forged: [],
        invented: [],
      });
  } finally {
    for (const receiver of receivers) receiver.close();
    await writer.close();
    await pool.end();
    await system.end();
    database.away();
  }
}

describe('the process of webhooks is killed, and what it needs goes away', () => {
  const onKafka = () =>
    (kafkaIsInstalled() ? it : it.skip).each(kafkaClientsOfRun)('on Kafka through %s: the same', async (library) => {
      const kafka = await testKafka(1);
      try {
        await survives(kafka, library);
      } finally {
        await kafka.destroy();
      }
    });
  const onTheLog = () => it('on the log: every message arrives, in order', () => survives());
  for (const declare of variantsOfRun([onTheLog, onKafka])) declare();
});
