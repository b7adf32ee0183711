import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CompressionTypes, ConfigResourceTypes, Kafka, logLevel, type IHeaders } from 'kafkajs';
import { startKafka, type KafkaCluster } from '../local/embedded-kafka';
import { commandOf } from '../local/embedded-postgres';
import { kafkaDistribution } from '../local/kafka-distribution';
import { kafkaIsInstalled } from './support/kafka';
import { sample, seedOfRun } from './support/sample';

console.log(`SEED=${seedOfRun}`);
/** A usual run has one of the two tests that have Maven fetch everything; a whole one has both. */
const ofRun = (which: 0 | 1) => (process.env.WHOLE || seedOfRun % 2 === which ? it : it.skip);

const local = resolve(__dirname, '../dist/local');

/** Skipped where Java or Maven is missing: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip)('the embedded Kafka', () => {
  let directory: string;
  let cluster: KafkaCluster | undefined;

  beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'sendmux-kafka-'))));
  afterEach(async () => {
    await cluster?.destroy();
    cluster = undefined;
    rmSync(directory, { recursive: true, force: true });
  });

  it('returns a record as it was sent, also after a restart on the same port', async () => {
    cluster = await startKafka({ directory });
    const { brokers } = cluster;
    await createTopic(brokers, 'kept', 1);
    await send(brokers, 'kept', { key: 'mdom_1', value: '{"domain":"acme.com"}', headers: { ce_id: 'mdom_1/1' } });
    expect(await received(brokers, 'kept', '{"domain":"acme.com"}')).toEqual([
      ['mdom_1', '{"domain":"acme.com"}', 'mdom_1/1'],
    ]);
    expect(cluster.pids).toHaveLength(1);

    await cluster.stop();
    expect(cluster.pids).toEqual([]);
    cluster = await startKafka({ directory });
    expect(cluster.brokers).toEqual(brokers);
    await send(brokers, 'kept', { key: 'mdom_1', value: '{}', headers: { ce_id: 'mdom_1/2' } });
    expect((await received(brokers, 'kept', '{}')).map(([, , id]) => id)).toEqual(['mdom_1/1', 'mdom_1/2']);
  });

  it('works with two of three nodes, refuses records with one, and recovers when the others start again', async () => {
    const ended: string[] = [];
    cluster = await startKafka({ directory, nodes: 3, nodeEnded: (_node, reason) => ended.push(reason) });
    const { brokers } = cluster;
    await createTopic(brokers, 'replicated', -1);
    expect(await configOf(brokers, 'replicated', 'min.insync.replicas')).toBe('2');
    await send(brokers, 'replicated', { value: 'with three' });

    await cluster.kill(0);
    expect(cluster.pids).toHaveLength(2);
    await send(brokers, 'replicated', { value: 'with two' });
    await cluster.stopNode(1);
    await expect(send(brokers, 'replicated', { value: 'with one' }, 0)).rejects.toThrow();

    await Promise.all([cluster.startNode(0), cluster.startNode(1)]);
    await send(brokers, 'replicated', { value: 'with three again' });
    // The record that was refused may have been stored all the same, and one whose answer was lost may be there twice.
    const values = new Set((await received(brokers, 'replicated', 'with three again')).map(([, value]) => value));
    values.delete('with one');
    expect([...values]).toEqual(['with three', 'with two', 'with three again']);
    expect(ended).toEqual([]);
    process.kill(cluster.pids[2]!, 'SIGKILL');
    while (ended.length === 0) await delay(20);
    expect(ended[0]).toMatch(/^Kafka node 2 ended unexpectedly \(SIGKILL\)\./);
  });

  it('says which port is in use, and that the directory holds another cluster', async () => {
    const taken = createServer();
    await new Promise<void>((listening) => taken.listen(0, '127.0.0.1', listening));
    const { port } = taken.address() as AddressInfo;
    await expect(startKafka({ directory, firstPort: port })).rejects.toThrow(
      new Error(`Port ${port}, which Kafka needs, is in use.`),
    );
    await new Promise((closed) => taken.close(closed));
    await expect(startKafka({ directory, nodes: 3 })).rejects.toThrow(/holds a Kafka of 1 node, not of 3/);
  });

  it('leaves no node running when its launcher is killed, and starts again on the data', async () => {
    const nodes = sample(1, 3) as 1 | 3;
    const script = `require('${local}/embedded-kafka').startKafka({ directory: '${directory}', nodes: ${nodes} })
      .then(({ pids, brokers }) => console.log(JSON.stringify({ pids, brokers })))`;
    const launcher = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const line = await new Promise<string>((said) =>
      launcher.stdout.once('data', (data: Buffer) => said(String(data))),
    );
    const { pids, brokers } = JSON.parse(line) as { pids: number[]; brokers: string[] };
    expect(pids.map((pid) => /kafka\.Kafka/.test(commandOf(pid)))).toEqual(Array.from({ length: nodes }, () => true));
    launcher.kill('SIGKILL');
    const deadline = Date.now() + 5_000;
    while (pids.some((pid) => commandOf(pid) !== '') && Date.now() < deadline) await delay(20);
    expect(pids.map(commandOf)).toEqual(pids.map(() => ''));
    cluster = await startKafka({ directory, nodes });
    expect(cluster.brokers).toEqual(brokers);
  });

  describe('its jars', () => {
    /**
     * Prepares the jars of `cache` in a process of its own and gives its output; `bin` replaces the commands of the
     * machine.
     */
    function distribution(cache: string, bin?: string): { said: string; status: Promise<number | null> } {
      const script = `require('${local}/kafka-distribution').kafkaDistribution({ cache: '${cache}', say: console.log })
        .catch((error) => { console.log(error.message); process.exitCode = 1; })`;
      const env = { ...process.env, ...(bin && { PATH: bin }) };
      const child = spawn(process.execPath, ['-e', script], { env, stdio: ['ignore', 'pipe', 'inherit'] });
      const result = { said: '', status: new Promise<number | null>((done) => child.once('close', done)) };
      child.stdout.on('data', (data: Buffer) => (result.said += String(data)));
      return result;
    }
    const jars = (cache: string) => readdirSync(cache).filter((name) => name.endsWith('.jar'));
    /** Makes a folder with a command of each name, given its script. */
    function commands(scripts: Record<string, string>): string {
      const bin = join(directory, 'bin');
      mkdirSync(bin);
      for (const [name, script] of Object.entries(scripts))
        writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      return bin;
    }
    const java = `exec ${spawnSync('which', ['java'], { encoding: 'utf8' }).stdout.trim()} "$@"`;

    ofRun(0)('are fetched completely and once, even by two concurrent processes', async () => {
      const cache = join(directory, 'cache', 'kafka');
      const both = [distribution(cache), distribution(cache)];
      expect(await Promise.all(both.map(({ status }) => status))).toEqual([0, 0]);
      expect(both.map(({ said }) => /Fetching Apache Kafka.*\n(.*\n)*.*Fetched in/.test(said))).toContain(true);
      expect(jars(cache)).toHaveLength(45);
      expect(readdirSync(join(directory, 'cache'))).toEqual(['kafka']);
      const again = distribution(cache, commands({ java }));
      expect([await again.status, again.said]).toEqual([0, '']);
    });

    ofRun(1)('are fetched again when one has changed', async () => {
      const cache = join(directory, 'kafka');
      const { classPath } = await kafkaDistribution();
      const jar = classPath.split(':').find((file) => /kafka-clients/.test(file))!;
      cpSync(join(jar, '..'), cache, { recursive: true });
      const copy = join(cache, jar.slice(jar.lastIndexOf('/') + 1));
      const bytes = readFileSync(copy);
      bytes[1_000]! ^= 1;
      rmSync(copy);
      writeFileSync(copy, bytes);
      const checked = distribution(cache);
      expect(await checked.status).toBe(0);
      expect(checked.said).toMatch(
        /is not whole \(kafka-clients-4\.4\.0\.jar has the SHA-256 \w{64} instead of \w{64}\)/,
      );
      expect(readFileSync(copy).equals(readFileSync(jar))).toBe(true);
    });

    it('are refused and removed when Maven delivers others', async () => {
      const cache = join(directory, 'kafka');
      const target = 'for last; do :; done; echo other > "${last#*=}/HdrHistogram-2.2.2.jar"';
      const fetched = distribution(cache, commands({ java, mvn: target }));
      expect(await fetched.status).toBe(1);
      expect(fetched.said).toMatch(
        /is not the Kafka that .*jars\.sha256 names: HdrHistogram-2\.2\.2\.jar has the SHA-256/,
      );
      expect(existsSync(cache)).toBe(false);
      expect(readdirSync(directory)).toEqual(['bin']);
    });

    it.each([
      ['java', {}],
      ['mvn', { java }],
    ])('need %s; the error says what to install', async (name, there) => {
      const fetched = distribution(join(directory, 'kafka'), commands(there));
      expect(await fetched.status).toBe(1);
      expect(fetched.said).toMatch(
        new RegExp(`${name} is not installed. On Debian: apt-get install .* maven. Or set KAFKA_BROKERS`),
      );
    });
  });
});

const client = (brokers: readonly string[]) => new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING });

async function createTopic(brokers: readonly string[], topic: string, replicationFactor: number): Promise<void> {
  const admin = client(brokers).admin();
  await admin.connect();
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 1, replicationFactor }] });
  await admin.disconnect();
}

async function configOf(brokers: readonly string[], topic: string, name: string): Promise<string | undefined> {
  const admin = client(brokers).admin();
  await admin.connect();
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: [name] }],
  });
  await admin.disconnect();
  return resources[0]!.configEntries.find(({ configName }) => configName === name)?.configValue;
}

/** Sends a record, acknowledged by all in-sync replicas. */
async function send(
  brokers: readonly string[],
  topic: string,
  message: { key?: string; value: string; headers?: IHeaders },
  retries = 10,
): Promise<void> {
  const producer = client(brokers).producer({
    retry: { retries, initialRetryTime: 200 },
    createPartitioner: () => () => 0,
  });
  await producer.connect();
  try {
    await producer.send({ topic, acks: -1, compression: CompressionTypes.None, timeout: 2_000, messages: [message] });
  } finally {
    await producer.disconnect();
  }
}

/** Reads key, value and `ce_id` of the records of a topic, up to the one with the value `last`. */
async function received(brokers: readonly string[], topic: string, last: string): Promise<(string | undefined)[][]> {
  const consumer = client(brokers).consumer({ groupId: `${topic}-${Date.now()}`, maxWaitTimeInMs: 200 });
  const records: (string | undefined)[][] = [];
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    eachMessage: ({ message }) => {
      records.push([message.key?.toString(), message.value?.toString(), message.headers?.ce_id?.toString()]);
      return Promise.resolve();
    },
  });
  const deadline = Date.now() + 30_000;
  while (!records.some(([, value]) => value === last) && Date.now() < deadline) await delay(50);
  await consumer.disconnect();
  return records;
}
