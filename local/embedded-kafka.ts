/**
 * Runs a real Apache Kafka (KRaft) on a machine without Docker: one node or three on loopback, each both broker and
 * controller, on the installed Java.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Kafka, logLevel } from 'kafkajs';
import { writePrivateFile } from './data-directory';
import { commandOf } from './embedded-postgres';
import { kafkaDistribution, type DistributionOptions, type KafkaDistribution } from './kafka-distribution';
import { stopWithLauncher } from './stop-with-launcher';

export interface KafkaOptions extends DistributionOptions {
  /** The directory of data, logs and chosen ports; created at the first start and kept. */
  readonly directory: string;
  /** The number of nodes. Three replicate all records, and accept new ones while one of them is down. */
  readonly nodes?: 1 | 3;
  /**
   * The port of the first broker. The other brokers follow it, then the controllers. When absent, free ports are chosen
   * at the first start and kept.
   */
  readonly firstPort?: number;
  /** Listeners for clients of a single node, beside the one of plain text that every node has. */
  readonly listeners?: readonly KafkaListener[];
  /** Properties of the brokers beside those that they have. */
  readonly properties?: Readonly<Record<string, string>>;
  /** Called with the number of a node and the reason when it ends and nobody has stopped it. */
  readonly nodeEnded?: (node: number, reason: string) => void;
}

export interface KafkaListener {
  /** The name in lower case, as properties have it: `listener.name.<name>.…`. */
  readonly name: string;
  readonly protocol: 'SSL' | 'SASL_PLAINTEXT' | 'SASL_SSL';
  readonly port: number;
}

/** A running cluster. Nodes are numbered from 0, in the order of `brokers`. */
export interface KafkaCluster {
  /** The address (`host:port`) of each node. */
  readonly brokers: readonly string[];
  /** The process ids of the running nodes. */
  readonly pids: readonly number[];
  /** Sends SIGKILL; resolves when the node has ended. */
  kill(node: number): Promise<void>;
  /** Shuts a node down in a controlled way: its partitions get other leaders first. */
  stopNode(node: number): Promise<void>;
  /**
   * Starts a stopped node on its data; resolves when it answers as a member of the cluster. That takes a majority of
   * the nodes, so start several of them concurrently.
   */
  startNode(node: number): Promise<void>;
  /** Shuts all nodes down in a controlled way; the data stays. */
  stop(): Promise<void>;
  /** Kills all nodes and removes the directory; for tests. */
  destroy(): Promise<void>;
}

const host = '127.0.0.1';
const readyWithinMs = 60_000;
const stopWithinMs = 20_000;
const tailLines = 15;
/**
 * The options of Java. Only the fast compiler (C1) and the collector without threads of its own are used, since the
 * nodes are short-lived, have small heaps and share few cores.
 */
const jvm = [
  '-Xmx256m',
  '-XX:TieredStopAtLevel=1',
  '-XX:+UseSerialGC',
  '-XX:-UsePerfData',
  ...['defaultLogLevel=warn', 'showDateTime=true', 'dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS'].map(
    (setting) => `-Dorg.slf4j.simpleLogger.${setting}`,
  ),
];

/** The choices that stay the same as long as the directory exists. */
interface ClusterFile {
  readonly id: string;
  readonly nodes: number;
  /** The ports of each node: its broker and its controller. */
  readonly ports: [number, number][];
}

type Cluster = ClusterFile & Required<Pick<KafkaOptions, 'listeners' | 'properties'>>;

/**
 * Starts a cluster, or starts it again on the data of `directory`.
 *
 * @throws {Error} that says what to install, which port is in use, or that the directory belongs to another cluster or
 * a running one; or with the end of a node's log.
 */
export async function startKafka(options: KafkaOptions): Promise<KafkaCluster> {
  const distribution = await kafkaDistribution(options);
  if (!existsSync(distribution.archive)) await archiveClasses(distribution, options);
  return startCluster(distribution, options);
}

async function startCluster(
  distribution: KafkaDistribution,
  { directory, nodes: count = 1, firstPort, listeners = [], properties = {}, nodeEnded, signal }: KafkaOptions,
  flags: string[] = [],
): Promise<KafkaCluster> {
  const home = resolve(directory);
  mkdirSync(home, { recursive: true });
  const cluster = { ...(await clusterOf(home, count, firstPort)), listeners, properties };
  const nodes = cluster.ports.map((_, index) => new Node(index, home, cluster, distribution, flags, nodeEnded, signal));
  const all = (action: (node: Node) => Promise<void>) => Promise.all(nodes.map(action)).then(() => undefined);
  try {
    await all((node) => node.start(nodes.map(({ id }) => id)));
  } catch (error) {
    await all((node) => node.end('SIGKILL'));
    throw error;
  }
  return {
    brokers: nodes.map(({ broker }) => broker),
    get pids() {
      return nodes.flatMap(({ pid }) => pid ?? []);
    },
    kill: (node) => nodes[node]!.end('SIGKILL'),
    stopNode: (node) => nodes[node]!.end('SIGTERM'),
    startNode: (node) => nodes[node]!.start(),
    stop: () => all((node) => node.end('SIGTERM')),
    destroy: async () => {
      await all((node) => node.end('SIGKILL'));
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** Reads the choices that all nodes share, or makes and stores them. */
async function clusterOf(home: string, nodes: number, firstPort?: number): Promise<ClusterFile> {
  const file = join(home, 'cluster.json');
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as ClusterFile) : undefined;
  if (known && known.nodes !== nodes)
    throw new Error(
      `${home} holds a Kafka of ${known.nodes} node${known.nodes === 1 ? '' : 's'}, not of ${nodes}: start that one, or take another directory.`,
    );
  const cluster: ClusterFile = {
    id: known?.id ?? randomBytes(16).toString('base64url').replace(/^-/, 'A'),
    nodes,
    ports:
      firstPort !== undefined
        ? Array.from({ length: nodes }, (_, index) => [firstPort + index, firstPort + nodes + index])
        : (known?.ports ?? (await freePorts(nodes))),
  };
  writePrivateFile(file, `${JSON.stringify(cluster)}\n`);
  return cluster;
}

class Node {
  readonly broker: string;
  /** The id of the node in Kafka. */
  readonly id: number;
  private readonly home: string;
  private readonly properties: string;
  private readonly logFile: string;
  private readonly name: string;
  private child: ChildProcess | undefined;
  private gone = Promise.resolve();
  private ending = false;

  constructor(
    private readonly index: number,
    directory: string,
    private readonly cluster: Cluster,
    private readonly distribution: KafkaDistribution,
    private readonly flags: string[],
    private readonly nodeEnded: KafkaOptions['nodeEnded'],
    private readonly signal: AbortSignal | undefined,
  ) {
    this.id = idOf(index);
    this.broker = `${host}:${cluster.ports[index]![0]}`;
    this.home = join(directory, `node-${index}`);
    this.properties = join(this.home, 'server.properties');
    this.logFile = join(this.home, 'kafka.log');
    this.name = cluster.nodes === 1 ? 'Kafka' : `Kafka node ${index}`;
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /**
   * @param awaited ids of the nodes that must be members of the cluster before this resolves; only this node when
   * absent.
   */
  async start(awaited = [this.id]): Promise<void> {
    if (this.child) throw new Error(`${this.name} runs already.`);
    mkdirSync(this.home, { recursive: true });
    await this.alone();
    await this.portsAreFree();
    await this.format();
    writeFileSync(this.properties, propertiesOf(this.cluster, this.index, join(this.home, 'data')));
    if (existsSync(this.logFile)) renameSync(this.logFile, `${this.logFile}.1`);
    this.ending = false;
    await this.untilReady(this.launch(), awaited);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.ending = true;
    const { child } = this;
    if (!child) return;
    const late = setTimeout(() => child.kill('SIGKILL'), stopWithinMs);
    child.kill(signal);
    await this.gone;
    clearTimeout(late);
  }

  private launch(): ChildProcess {
    const log = openSync(this.logFile, 'a');
    // The node gets a process group of its own, so that Ctrl-C on the terminal only reaches the launcher, which stops
    // all processes in order.
    const child = spawn('java', [...this.java(), ...this.flags, 'kafka.Kafka', this.properties], {
      cwd: this.home,
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.child = child;
    const dismiss = child.pid === undefined ? undefined : stopWithLauncher(child.pid, 'KILL');
    writeFileSync(join(this.home, 'pid'), `${child.pid ?? ''}\n`);
    this.gone = new Promise((done) => {
      const over = () => {
        dismiss?.();
        this.child = undefined;
        done();
      };
      child.once('error', over);
      child.once('exit', over);
    });
    return child;
  }

  private java(): string[] {
    const { archive, classPath } = this.distribution;
    return [...(existsSync(archive) ? [`-XX:SharedArchiveFile=${archive}`] : []), ...jvm, '-cp', classPath];
  }

  /** Waits until the node reports to clients that there is a controller, and that the awaited nodes are members. */
  private async untilReady(child: ChildProcess, awaited: number[]): Promise<void> {
    const deadline = Date.now() + readyWithinMs;
    while (Date.now() < deadline && this.child === child && !this.signal?.aborted) {
      const members = await this.members();
      if (awaited.every((id) => members.includes(id))) {
        child.once('exit', (code, by) => {
          if (!this.ending) this.nodeEnded?.(this.index, this.failure(`ended unexpectedly (${code ?? by})`).message);
        });
        if (this.child === child) return;
      }
      await delay(50);
    }
    throw this.failure(
      this.signal?.aborted
        ? 'was interrupted'
        : this.child === child
          ? `is not ready after ${readyWithinMs / 1000} s`
          : `ended with ${child.exitCode ?? child.signalCode ?? 'no process'}`,
    );
  }

  /** Reads the ids of the members of the cluster from this node; none while there is no controller. */
  private async members(): Promise<number[]> {
    const admin = new Kafka({
      brokers: [this.broker],
      logLevel: logLevel.NOTHING,
      connectionTimeout: 1_000,
      requestTimeout: 2_000,
      retry: { retries: 0 },
    }).admin();
    try {
      await admin.connect();
      const { brokers, controller } = await admin.describeCluster();
      return controller === null ? [] : brokers.map(({ nodeId }) => nodeId);
    } catch {
      return []; // not yet
    } finally {
      await admin.disconnect().catch(() => undefined);
    }
  }

  private failure(why: string): Error {
    const log = existsSync(this.logFile) ? readFileSync(this.logFile, 'utf8').trim().split('\n') : [];
    const tail = log.slice(-tailLines).map((line) => `    ${line}`);
    return new Error([`${this.name} ${why}.`, ...tail, `Its whole log: ${this.logFile}`].join('\n'));
  }

  /**
   * Waits until a node of a killed launcher has ended.
   *
   * @throws {Error} when it still runs after 5 s.
   */
  private async alone(): Promise<void> {
    const file = join(this.home, 'pid');
    const deadline = Date.now() + 5_000;
    const pid = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
    while (pid && commandOf(pid).includes(this.properties)) {
      if (Date.now() > deadline)
        throw new Error(`${this.name} already runs on ${this.home} (process ${pid}): is it started twice?`);
      await delay(50);
    }
  }

  private async portsAreFree(): Promise<void> {
    for (const port of this.cluster.ports[this.index]!)
      if (!(await isFree(port))) throw new Error(`Port ${port}, which ${this.name} needs, is in use.`);
  }

  /** Formats the data directory once. It is renamed when it is complete, so that an interrupted format is repeated. */
  private async format(): Promise<void> {
    const data = join(this.home, 'data');
    if (existsSync(data)) return;
    const fresh = join(this.home, 'data.new');
    rmSync(fresh, { recursive: true, force: true });
    const properties = join(this.home, 'format.properties');
    writeFileSync(properties, propertiesOf(this.cluster, this.index, fresh));
    const format = ['kafka.tools.StorageTool', 'format', '--cluster-id', this.cluster.id, '--config', properties];
    await promisify(execFile)('java', [...this.java(), ...format], { signal: this.signal }).catch(
      (error: Error & { stderr?: string }) => {
        throw new Error(`Kafka cannot format ${fresh}: ${error.stderr?.trim().slice(-3_000) || error.name}`, {
          cause: error,
        });
      },
    );
    rmSync(properties);
    renameSync(fresh, data);
  }
}

const idOf = (index: number): number => index + 1;

function propertiesOf({ nodes, ports, listeners, properties }: Cluster, index: number, data: string): string {
  const [broker, controller] = ports[index]!;
  const replicas = nodes;
  const forClients = [
    `PLAINTEXT://${host}:${broker}`,
    ...listeners.map(({ name, port }) => `${name}://${host}:${port}`),
  ];
  return Object.entries({
    'process.roles': 'broker,controller',
    'node.id': idOf(index),
    'controller.quorum.voters': ports.map(([, port], other) => `${idOf(other)}@${host}:${port}`).join(','),
    listeners: [...forClients, `CONTROLLER://${host}:${controller}`].join(','),
    'advertised.listeners': forClients.join(','),
    'controller.listener.names': 'CONTROLLER',
    'listener.security.protocol.map': [
      'CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT',
      ...listeners.map(({ name, protocol }) => `${name}:${protocol}`),
    ].join(','),
    // A backslash begins an escape in a properties file.
    'log.dirs': data.replaceAll('\\', '\\\\'),
    'default.replication.factor': replicas,
    'min.insync.replicas': nodes === 3 ? 2 : 1,
    'auto.create.topics.enable': false,
    // Small and fast: there are few topics, groups that come and go, and nodes that are killed.
    'offsets.topic.num.partitions': 4,
    'offsets.topic.replication.factor': replicas,
    'transaction.state.log.num.partitions': 2,
    'transaction.state.log.replication.factor': replicas,
    'transaction.state.log.min.isr': 1,
    'group.initial.rebalance.delay.ms': 0,
    'broker.heartbeat.interval.ms': 500,
    'broker.session.timeout.ms': 3_000,
    'log.cleaner.dedupe.buffer.size': 2_097_152,
    'num.network.threads': 2,
    'num.io.threads': 4,
    ...properties,
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');
}

/**
 * Stores the loaded classes (AppCDS) by starting and stopping a temporary node once. Without the archive every start
 * takes longer.
 */
async function archiveClasses(distribution: KafkaDistribution, { say, signal }: DistributionOptions): Promise<void> {
  const directory = mkdtempSync(join(dirname(distribution.archive), 'making-classes-'));
  const fresh = join(directory, 'classes.jsa');
  say?.('  Making an archive of Kafka’s classes for quicker starts (once) …');
  try {
    const node = await startCluster(distribution, { directory, signal }, [`-XX:ArchiveClassesAtExit=${fresh}`]);
    await node.stop();
    renameSync(fresh, distribution.archive);
  } catch (error) {
    if (!signal?.aborted) say?.(`  There is none, and starts are slower: ${(error as Error).message.split('\n')[0]}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * Finds free ports below 32768. Above it the kernel assigns ports to outgoing connections, which could take one
 * meanwhile.
 */
async function freePorts(nodes: number): Promise<[number, number][]> {
  const ports: number[] = [];
  while (ports.length < 2 * nodes) {
    const port = randomInt(20_000, 32_000);
    if (!ports.includes(port) && (await isFree(port))) ports.push(port);
  }
  return Array.from({ length: nodes }, (_, index) => [ports[2 * index]!, ports[2 * index + 1]!]);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const probe = createServer();
    probe.once('error', () => done(false));
    probe.listen(port, host, () => probe.close(() => done(true)));
  });
}
