/**
 * Provides the jars of Apache Kafka, which `mvn` fetches from Maven Central, in a cache folder of the user. A jar is
 * only used when it has the checksum in `kafka/jars.sha256`.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

export interface KafkaDistribution {
  /** The class path for `java -cp`: every jar, in a stable order. */
  readonly classPath: string;
  /**
   * The path of the archive of loaded classes (AppCDS), which halves the time of a start. It is valid for one version
   * of Java.
   */
  readonly archive: string;
}

export interface DistributionOptions {
  /**
   * The folder of the jars; `kafka-4.4.0` in the folder of this product in `XDG_CACHE_HOME` or `~/.cache` when absent.
   */
  readonly cache?: string;
  /** Shows a line to the user when there is a wait. */
  readonly say?: (line: string) => void;
  readonly signal?: AbortSignal;
}

const version = '4.4.0';
const oldestJava = 17;
const copyDependencies = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies';
/** The folder of the pinned versions. It is found from the compiled launcher in `dist/local` and from the sources. */
const pinned = [resolve(__dirname, 'kafka'), resolve(__dirname, '../../local/kafka')].find((folder) =>
  existsSync(join(folder, 'pom.xml')),
)!;
const verified = new Map<string, Promise<void>>();

const defaultCache = (): string =>
  join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'sendmux-domains', `kafka-${version}`);

/**
 * Fetches the jars unless the cache has them, and checks them.
 *
 * @throws {Error} that says what to install, or which jar has another checksum.
 */
export async function kafkaDistribution({
  cache = defaultCache(),
  say = () => undefined,
  signal,
}: DistributionOptions = {}): Promise<KafkaDistribution> {
  const java = javaRelease();
  const expected = expectedJars();
  // The check is made once per process: nothing writes to the folder afterwards.
  if (!verified.has(cache)) verified.set(cache, prepare(cache, expected, say, signal));
  try {
    await verified.get(cache);
  } catch (error) {
    verified.delete(cache);
    throw error;
  }
  return {
    classPath: [...expected.keys()].map((jar) => join(cache, jar)).join(':'),
    archive: join(cache, `classes-${createHash('sha256').update(java).digest('hex').slice(0, 12)}.jsa`),
  };
}

async function prepare(
  cache: string,
  expected: Map<string, string>,
  say: (line: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  if (existsSync(cache)) {
    const fault = await faultOf(cache, expected);
    if (!fault) return;
    say(`  The Kafka kept in ${cache} is not whole (${fault}); it is fetched again.`);
    const aside = mkdtempSync(`${cache}-faulty-`);
    renameSync(cache, join(aside, 'cache'));
    rmSync(aside, { recursive: true });
  }
  mkdirSync(dirname(cache), { recursive: true });
  const fresh = mkdtempSync(`${cache}-new-`);
  try {
    await fetchJars(fresh, say, signal);
    const fault = await faultOf(fresh, expected);
    if (fault)
      throw new Error(
        `What mvn fetched is not the Kafka that ${join(pinned, 'jars.sha256')} names: ${fault}. A jar in ~/.m2/repository may be damaged: remove it there and start again.`,
      );
    renameSync(fresh, cache);
  } catch (error) {
    // Another process has created the folder meanwhile, and its jars are checked like any others.
    if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    const fault = await faultOf(cache, expected);
    if (fault) throw new Error(`The Kafka kept in ${cache} is not whole: ${fault}.`, { cause: error });
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

async function fetchJars(folder: string, say: (line: string) => void, signal?: AbortSignal): Promise<void> {
  const since = performance.now();
  const seconds = () => `${((performance.now() - since) / 1000).toFixed(0)} s`;
  say(`  Fetching Apache Kafka ${version} from Maven Central (45 MB, the first time only) …`);
  const patience = setInterval(() => say(`  … still fetching after ${seconds()}`), 10_000);
  try {
    await run(
      'mvn',
      ['-q', '-B', '-f', join(pinned, 'pom.xml'), copyDependencies, `-DoutputDirectory=${folder}`],
      signal,
    );
  } finally {
    clearInterval(patience);
  }
  say(`  Fetched in ${seconds()}.`);
}

/**
 * Runs a command.
 *
 * @throws {Error} with the end of its output when it fails.
 */
function run(command: string, args: string[], signal?: AbortSignal): Promise<void> {
  return new Promise((done, failed) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
    let tail = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (tail = (tail + text).slice(-3_000)));
    child.once('error', (error: NodeJS.ErrnoException) =>
      failed(error.code === 'ENOENT' ? notInstalled(`${command} is not installed`) : error),
    );
    child.once('close', (code) => (code === 0 ? done() : failed(new Error(`${command} failed:\n${tail.trim()}`))));
  });
}

/** Names the first jar that is missing or has another checksum. Other files in the folder are never read. */
async function faultOf(folder: string, expected: Map<string, string>): Promise<string | undefined> {
  for (const [jar, sum] of expected) {
    const file = join(folder, jar);
    if (!existsSync(file)) return `${jar} is missing`;
    const found = createHash('sha256')
      .update(await readFile(file))
      .digest('hex');
    if (found !== sum) return `${jar} has the SHA-256 ${found} instead of ${sum}`;
  }
  return undefined;
}

/** Reads the SHA-256 of each jar, by its name, from the format of `sha256sum`. */
function expectedJars(): Map<string, string> {
  const lines = readFileSync(join(pinned, 'jars.sha256'), 'utf8').trim().split('\n');
  return new Map(lines.map((line) => line.split(/ +/).reverse() as [string, string]));
}

/**
 * Gives the output of `java -version`.
 *
 * @throws {Error} when Java is missing or too old.
 */
function javaRelease(): string {
  const { status, stderr, error } = spawnSync('java', ['-version'], { encoding: 'utf8' });
  if (error || status !== 0) throw notInstalled('java is not installed');
  const [, major] = /version "(\d+)/.exec(stderr) ?? [];
  if (Number(major) < oldestJava) throw notInstalled(`this is Java ${major}`);
  return stderr;
}

const notInstalled = (what: string): Error =>
  new Error(
    `An embedded Kafka needs Java ${oldestJava} or later, and Maven to fetch it: ${what}. On Debian: apt-get install default-jre-headless maven. Or set KAFKA_BROKERS to a cluster of your own.`,
  );
