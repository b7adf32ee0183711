import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { freePort } from '../../local/embedded-postgres';
import { stopWithLauncher } from '../../local/stop-with-launcher';

/** The rules of the product. */
export const rulesFolder = resolve(__dirname, '../../ops/prometheus/rules');

/** Whether the server and `promtool` are installed: see tools/install-counterparts. */
export const prometheusIsInstalled = (): boolean =>
  ['prometheus', 'promtool'].every((program) => spawnSync('which', [program]).status === 0);

/** Runs `promtool`; gives what it has said, whichever way. */
export function promtool(...args: string[]): { readonly status: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  return { status, said: stdout + stderr };
}

type Labels = Readonly<Record<string, string>>;

export interface PendingOrFiringAlarm {
  readonly name: string;
  readonly state: 'pending' | 'firing';
  readonly labels: Labels;
}

/** The values of a series, by seconds since the epoch. */
export interface Series {
  readonly labels: Labels;
  readonly values: ReadonlyMap<number, number>;
}

export interface Prometheus {
  /** Gives the alarms that are pending or fire. */
  alarms(): Promise<PendingOrFiringAlarm[]>;
  /** Gives the value of an expression for each set of labels, now. */
  query(expression: string): Promise<{ readonly labels: Labels; readonly value: number }[]>;
  /** Gives the values of an expression from a time to another one, in seconds since the epoch. */
  range(expression: string, from: number, to: number, step: number): Promise<Series[]>;
  stop(): Promise<void>;
}

/**
 * Starts a real Prometheus with the rules of the product.
 *
 * @param targets the port of each job.
 * @param seconds between two scrapes, and between two evaluations of the rules.
 * @throws {Error} when it does not start, with what it has said.
 */
export async function startPrometheus(targets: Readonly<Record<string, number>>, seconds: number): Promise<Prometheus> {
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-prometheus-'));
  const file = join(directory, 'prometheus.yml');
  const log = join(directory, 'log');
  const interval = `${seconds}s`;
  const config = {
    global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: interval },
    rule_files: [join(rulesFolder, '*.yml')],
    scrape_configs: Object.entries(targets).map(([job_name, port]) => ({
      job_name,
      static_configs: [{ targets: [`127.0.0.1:${port}`] }],
    })),
  };
  writeFileSync(file, stringify(config));
  writeFileSync(log, '');
  const port = await freePort();
  const args = [
    `--config.file=${file}`,
    `--storage.tsdb.path=${join(directory, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ];
  const child = spawn('prometheus', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr.setEncoding('utf8').on('data', (said: string) => writeFileSync(log, said, { flag: 'a' }));
  if (child.pid !== undefined) child.once('exit', stopWithLauncher(child.pid, 'KILL'));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  };

  async function get<Data>(path: string): Promise<Data> {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    const { data, error } = (await response.json()) as { data: Data; error?: string };
    if (error !== undefined) throw new Error(`Prometheus: ${error}`);
    return data;
  }
  type Matrix = { result: { metric: Labels; values: [number, string][] }[] };
  type Vector = { result: { metric: Labels; value: [number, string] }[] };

  for (const deadline = Date.now() + 60_000; ; await delay(100)) {
    const answer = await fetch(`http://127.0.0.1:${port}/-/ready`).catch(() => undefined);
    if (answer?.status === 200) break;
    if (Date.now() < deadline && child.exitCode === null) continue;
    const said = existsSync(log) ? readFileSync(log, 'utf8') : '';
    await stop();
    throw new Error(`Prometheus does not start:\n${said}`);
  }
  return {
    stop,
    alarms: async () => {
      const { alerts } = await get<{ alerts: { state: 'pending' | 'firing'; labels: Labels }[] }>('/api/v1/alerts');
      return alerts.map(({ state, labels }) => ({ name: labels.alertname!, state, labels }));
    },
    query: async (expression) => {
      const { result } = await get<Vector>(`/api/v1/query?query=${encodeURIComponent(expression)}`);
      return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
    },
    range: async (expression, from, to, step) => {
      const { result } = await get<Matrix>(
        `/api/v1/query_range?query=${encodeURIComponent(expression)}&start=${from}&end=${to}&step=${step}`,
      );
      return result.map(({ metric, values }) => ({
        labels: metric,
        values: new Map(values.map(([at, value]) => [at, Number(value)])),
      }));
    },
  };
}
