import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { openPool } from '@app/database';
import { KafkaClient, toCloudEvent } from '@app/messaging';
import { eventVersions } from '@app/subscriptions';
import { Kafka, logLevel, type KafkaMessage } from 'kafkajs';
import { kcat, prepare, python, Subscriber, typescript, virtualEnvironment } from './support/documented-subscriber';
import { asyncApi, faultsOf, type PublishedMessage } from './support/event-schemas';
import { eventsOf, recorded } from './support/golden';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { startSystem, type System } from './support/processes';

const root = resolve(__dirname, '..');
const topic = asyncApi().channels.domainEvents!.address;
const kafkaInstalled = kafkaIsInstalled();
const venv = kafkaInstalled ? virtualEnvironment() : undefined;
const kcatInstalled = ['kcat', 'jq'].every((command) => spawnSync('which', [command]).status === 0);

interface Message extends PublishedMessage {
  readonly key: string;
  readonly timestamp: number;
  readonly value: Buffer;
}

/**
 * Runs the programs of docs/subscribe.md against a real Kafka. Skipped where Java or Maven is missing: see
 * tools/install-counterparts.
 */
(kafkaInstalled ? describe : describe.skip)('subscribing as docs/subscribe.md says', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sendmux-subscribe-'));
  let kafka: SharedKafka;
  let client: Kafka;
  let system: System;
  let api: Awaited<ReturnType<System['team']>>['api'];
  let published: Message[];
  const running: Subscriber[] = [];

  const ofDomain = (name: string, messages: readonly Message[]) => {
    const [added] = messages.filter(({ payload }) => (payload as { name?: string }).name === name);
    return messages.filter(({ key }) => key === added?.key);
  };
  const typeOf = ({ headers }: PublishedMessage) => headers.ce_type!.replace('com.sendmux.', '');
  /**
   * Gives the line that a subscriber prints for each message of a domain, in order, up to the colon:
   * `2026-11-01T10:00:00.084Z mail.acme.com DomainAdded`.
   */
  const expectedOf = (name: string, messages = published) =>
    ofDomain(name, messages).map((message) => `${message.headers.ce_time} ${name} ${typeOf(message)}`);
  const linesOf = (name: string, subscriber: Subscriber) =>
    subscriber.lines.filter((line) => line.split(' ')[1] === name).map((line) => /^\S+ \S+ \w+(?=:)/.exec(line)?.[0]);

  beforeAll(async () => {
    kafka = await sharedKafka();
    client = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING });
    system = await startSystem({
      brokers: kafka.brokers,
      together: 'all',
      env: { KAFKA_TOPIC: topic, VERIFICATION_INTERVAL: '3s' },
    });
    ({ api } = await system.team());
    await system.sandbox.plantIdentity('taken.acme.com');
    expect((await api.add('taken.acme.com')).status).toBe(502);
    await repaired('lost.acme.com');
    await withMailbox('box.acme.com');
    await wholeLife('mail.acme.com');
    published = await allMessages();
    // Every message is published twice, as by a relay that was killed before it stored its checkpoint.
    const producer = client.producer();
    await producer.connect();
    await producer.send({ topic, messages: published.map(({ key, value, headers }) => ({ key, value, headers })) });
    await producer.disconnect();
  });

  afterEach(async () => {
    await Promise.all(running.splice(0).map((subscriber) => subscriber.stop()));
  });
  afterAll(async () => {
    await system?.end();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Makes a domain that is added, verified, lapses, fails, is mailed about, and is deleted. */
  async function wholeLife(name: string): Promise<void> {
    const added = await api.add(name);
    expect(added.status).toBe(201);
    const { id } = (added.body as { data: { id: string } }).data;
    const becomes = (wanted: string) =>
      system.until(`${name} is ${wanted}`, async () => {
        const { data } = (await api.get(id)).body as { data: { verification_status: string } };
        return data.verification_status === wanted;
      });
    await system.sandbox.place(added.body);
    await api.verify(id);
    await becomes('verified');
    await system.sandbox.remove(added.body);
    await becomes('failed');
    await system.until(`the owners of ${name} are told`, async () => {
      const { data } = (await api.call('GET', `/domains/${id}/history`)).body as { data: { type: string }[] };
      return data.some(({ type }) => type === 'OwnersTold');
    });
    expect((await api.delete(id)).status).toBe(200);
  }

  /** Makes a domain that is added and verified, has a mailbox with all its events, and is deleted. */
  async function withMailbox(name: string): Promise<void> {
    const idOf = ({ body }: { body: unknown }) => (body as { data: { id: string } }).data.id;
    const added = await api.add(name);
    const provider = { outbound_provider: 'sendmux-ses' };
    await system.sandbox.place(added.body);
    await system.until(`${name} is verified`, async () => {
      const { body } = (await api.verify(idOf(added))) as { body: { data: { status: string } } };
      return body.data.status === 'verified';
    });
    await api.call('PUT', `/domains/${idOf(added)}/outbound-provider`, provider);
    const mailbox = idOf(await api.call('POST', '/mailboxes', { address: `ada@${name}`, ...provider }));
    for (const act of ['suspend', 'resume']) await api.call('POST', `/mailboxes/${mailbox}/${act}`);
    await api.call('DELETE', `/mailboxes/${mailbox}`);
    expect((await api.delete(idOf(added))).status).toBe(200);
  }

  /** Makes a domain that is added, lost by SES, created there again, and deleted. */
  async function repaired(name: string): Promise<void> {
    const { id } = ((await api.add(name)).body as { data: { id: string } }).data;
    const tokens = async () =>
      ((await api.get(id)).body as { data: { dns_records: { dkim: object[] } } }).data.dns_records.dkim;
    const before = JSON.stringify(await tokens());
    await system.sandbox.loseIdentity(name);
    await api.verify(id);
    await system.until(`${name} is repaired`, async () => JSON.stringify(await tokens()) !== before);
    expect((await api.delete(id)).status).toBe(200);
  }

  /** Reads the messages on the topic once the relay has published the whole log. */
  async function allMessages(): Promise<Message[]> {
    const pool = openPool(system.databaseUrl, 1);
    const { rows } = await pool.query<{ count: number }>('SELECT count(*)::int AS count FROM events');
    await pool.end();
    return messagesOn(topic, rows[0]!.count);
  }

  /** Reads a topic until it has that many messages with different ids, and expects no others. */
  async function messagesOn(source: string, count: number): Promise<Message[]> {
    const all = new Map<string, Message>();
    const consumer = client.consumer({ groupId: `test-${Date.now()}`, maxWaitTimeInMs: 100 });
    await consumer.connect();
    await consumer.subscribe({ topic: source, fromBeginning: true });
    await consumer.run({
      // eslint-disable-next-line @typescript-eslint/require-await -- its type
      eachMessage: async ({ message }) => {
        const read = messageOf(message);
        if (!all.has(read.headers.ce_id!)) all.set(read.headers.ce_id!, read);
      },
    });
    await system.until(`${count} events are on ${source}`, () => all.size >= count);
    await consumer.disconnect();
    expect(all.size).toBe(count);
    return [...all.values()];
  }

  /** Publishes the golden streams to a topic of their own, as event-relay does, and reads them back. */
  async function publishedGoldenStreams(): Promise<Message[]> {
    const golden = join(root, 'test/golden');
    const files = readdirSync(golden).filter((name) => name.endsWith('.ndjson'));
    const events = files.flatMap((name) => eventsOf(readFileSync(join(golden, name), 'utf8')).map(recorded));
    const relay = new KafkaClient({ brokers: kafka.brokers, tls: false }, 'test');
    const admin = await relay.admin();
    const partitions = await admin.ensureTopic({ topic: 'golden', partitions: 3, replication: 1 });
    await admin.close();
    const publisher = await relay.publisher('golden', partitions);
    await publisher.send(events.map((event) => toCloudEvent(event)));
    await publisher.close();
    return messagesOn('golden', events.length);
  }

  it('each message fits its schema and the described headers, and has no other fields', () => {
    for (const message of published) expectWellFormed(message);
    const life = ofDomain('mail.acme.com', published);
    expect(life.map(({ headers }) => Number(headers.ce_streamversion))).toEqual(life.map((_, index) => index + 1));
    expect(life.map(typeOf).filter((type) => type !== 'DnsChecked')).toEqual([
      'DomainAdded',
      'DomainProvisioned',
      'DomainVerified',
      'VerificationLapsed',
      'VerificationFailed',
      'OwnersTold',
      'DomainDeletionRequested',
      'DomainDeleted',
    ]);
  });

  it('every known type and schema version of the golden streams reaches a subscriber', async () => {
    const golden = await publishedGoldenStreams();
    for (const message of golden) expectWellFormed(message);
    const everyVersion = Object.entries(eventVersions.written).flatMap(([type, newest]) =>
      Array.from({ length: newest }, (_, index) => `urn:sendmux:event:${type}:${index + 1}`),
    );
    const seen = new Set([...golden, ...published].map(({ headers }) => headers.ce_dataschema));
    expect([...seen].sort()).toEqual(everyVersion.sort());
  });

  describe.each([
    ['TypeScript', typescript, 'my-service', true],
    ['Python', python, 'my-service-in-python', venv !== undefined],
  ])('in %s', (language, { file, text, commands }, groupId, installed) => {
    const test = installed ? it : it.skip;
    const home = join(folder, language);
    const start = (env: NodeJS.ProcessEnv = {}) => {
      const brokers = kafka.brokers.join(',');
      const subscriber = new Subscriber(`exec ${commands.at(-1)}`, home, { KAFKA_BROKERS: brokers, ...env });
      running.push(subscriber);
      return subscriber;
    };

    test('prints all events of each domain in order, once, and resumes after SIGTERM', async () => {
      mkdirSync(home);
      writeFileSync(join(home, file), text);
      prepare(home, commands, language === 'Python' ? venv : undefined);
      const first = start();
      await first.says(/mail\.acme\.com DomainDeleted: /);
      await first.says(/taken\.acme\.com ProvisioningRolledBack: /);
      await wholeLife(`${language.toLowerCase()}.acme.com`);
      await first.says(new RegExp(`${language.toLowerCase()}\\.acme\\.com DomainDeleted: `));
      published = await allMessages();
      for (const name of ['mail.acme.com', 'taken.acme.com', `${language.toLowerCase()}.acme.com`])
        expect(linesOf(name, first)).toEqual(expectedOf(name));
      expect(first.output).toMatch(/mail\.acme\.com VerificationLapsed: failing: .*\bmx\b/);
      expect(first.output).toMatch(/taken\.acme\.com ProvisioningFailed: foreign: Amazon SES has the name/);
      expect(await first.stop()).toBe(0);

      // The offsets are reset, as if the subscriber had crashed before any commit: all messages come again.
      const admin = client.admin();
      await admin.connect();
      const { partitions } = (await admin.fetchOffsets({ groupId, topics: [topic] }))[0]!;
      expect(partitions.some(({ offset }) => Number(offset) > 0)).toBe(true);
      await admin.resetOffsets({ groupId, topic, earliest: true });
      await admin.disconnect();
      const again = start();
      expect((await api.add(`again-${language.toLowerCase()}.acme.com`)).status).toBe(201);
      await again.says(/again-.* DomainProvisioned: /);
      // The added domain may have further events, but nothing is printed again for the others.
      expect(again.lines.filter((line) => !line.includes(' again-'))).toEqual([]);
      expect(await again.stop()).toBe(0);
    });

    test('stops at an unknown schema version, and ignores other events', async () => {
      const other = `other-${language}`;
      const admin = client.admin();
      await admin.connect();
      await admin.createTopics({ topics: [{ topic: other, numPartitions: 1 }] });
      await admin.disconnect();
      const [added, provisioned] = ofDomain('mail.acme.com', published) as [Message, Message];
      const key = 'mdom_other';
      const about = { ce_subject: key, ce_id: `${key}/1` };
      const next = { ce_subject: key, ce_id: `${key}/3`, ce_streamversion: '3' };
      const producer = client.producer();
      await producer.connect();
      await producer.send({
        topic: other,
        messages: [
          { key: null, value: 'not ours' },
          { key, value: added.value, headers: { ...added.headers, ...about } },
          { key, value: '{}', headers: { ...added.headers, ...about, ce_id: `${key}/2`, ce_streamversion: '2', ce_type: 'com.sendmux.DomainPainted' } }, // prettier-ignore
          { key, value: provisioned.value, headers: { ...provisioned.headers, ...next, ce_dataschema: 'urn:sendmux:event:DomainProvisioned:2' } }, // prettier-ignore
        ],
      });
      await producer.disconnect();
      const subscriber = start({ KAFKA_TOPIC: other });
      expect(await subscriber.ended).toBe(1);
      expect(subscriber.lines).toEqual([expect.stringMatching(/ mail\.acme\.com DomainAdded: by team_/)]);
      expect(subscriber.errors).toContain('Unknown: urn:sendmux:event:DomainProvisioned:2');
    });
  });

  (kcatInstalled ? it : it.skip)('with kcat, prints all events of each domain in order, once', async () => {
    const subscriber = new Subscriber(kcat, folder, { KAFKA_BROKERS: kafka.brokers.join(',') });
    running.push(subscriber);
    await subscriber.says(/ mail\.acme\.com DomainDeleted:/);
    await wholeLife('kcat.acme.com');
    await subscriber.says(/ kcat\.acme\.com DomainDeleted:/);
    published = await allMessages();
    for (const name of ['mail.acme.com', 'taken.acme.com', 'kcat.acme.com'])
      expect(linesOf(name, subscriber)).toEqual(expectedOf(name));
    expect(subscriber.output).toMatch(/ mail\.acme\.com VerificationLapsed: mx /);
    await subscriber.stop();
    expect(subscriber.errors).toBe('');
  });
});

/** Expects a message to match its schema, and the headers and the timestamp that docs/subscribe.md describes. */
function expectWellFormed(message: Message): void {
  expect(faultsOf(message)).toEqual([]);
  const { ce_subject, ce_streamversion, ce_id, ce_time } = message.headers;
  // A broker refuses a time that is yet to come, so a record of such an event has the time of its publication.
  const [{ key, timestamp }, time, now] = [message, Date.parse(ce_time!), Date.now()];
  expect(key).toBe(ce_subject);
  if (time <= now) expect(timestamp).toBe(time);
  else expect(timestamp).toBeLessThanOrEqual(now);
  expect(ce_id).toBe(`${ce_subject}/${ce_streamversion}`);
}

function messageOf({ key, value, headers, timestamp }: KafkaMessage): Message {
  return {
    key: String(key),
    value: value!,
    timestamp: Number(timestamp),
    payload: JSON.parse(String(value)) as unknown,
    headers: Object.fromEntries(Object.entries(headers ?? {}).map(([name, text]) => [name, String(text)])),
  };
}
