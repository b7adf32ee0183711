/**
 * Prints what happens between a request of one customer and its answer, over all processes: the spans that the apps
 * record, and each statement that PostgreSQL has run meanwhile, in the order in which they began. It is a tool for
 * whoever looks for where time goes, and gives no figures. All apps run as processes of their own against the sandbox,
 * as in `latency.ts`. Tracing and the log of statements take time themselves.
 *
 *     node dist/bench/timeline.js [--domains 40]
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startEmbeddedPostgres } from '../local/embedded-postgres';
import { OtlpReceiver } from '../test/support/otlp-receiver';
import { allApps, startSystem, type Answer, type AppName } from '../test/support/processes';
import { median } from './figure';

/** Something that one process has done; times are milliseconds since the epoch. */
interface Step {
  readonly from: number;
  readonly to: number;
  readonly who: string;
  readonly what: string;
}

/** Reads the statements of the server's log, which has the time of the end of each to the millisecond. */
function statementsOf(log: string): Step[] {
  const line = /^(\d+\.\d+) \[\d+\] (\S*) LOG: {2}duration: ([\d.]+) ms {2}(parse|bind|execute|statement)([^]*)$/;
  return log.split(/\n(?=\d+\.\d+ \[)/).flatMap((entry): Step[] => {
    const [, at, who = '', took, phase, rest = ''] = line.exec(entry) ?? [];
    if (at === undefined) return [];
    const to = Number(at) * 1_000;
    const what = `${phase} ${rest
      .replace(/^[ :]+/, '')
      .replace(/\s+/g, ' ')
      .slice(0, 90)}`;
    return [{ from: to - Number(took), to, who: `pg ${who}`, what }];
  });
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { domains: { type: 'string', default: '40' } } });
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bench-'));
  chmodSync(directory, 0o755);
  const server = await startEmbeddedPostgres(join(directory, 'postgres'), {
    log_line_prefix: '%n [%p] %a ',
    log_min_duration_statement: '0',
  });
  let logged = '';
  server.log.on('data', (text: string) => (logged += text));
  const receiver = await OtlpReceiver.open();
  try {
    process.env.TEST_DATABASE_URL = await server.database('postgres');
    const env = {
      RATE_LIMIT_PER_MINUTE: '10000000',
      SES_CALLS_PER_SECOND: '1000',
      LOG_LEVEL: 'info',
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
      OTEL_BSP_SCHEDULE_DELAY: '1000',
    };
    const system = await startSystem({ apps: [], env });
    try {
      const apps: AppName[] = [...allApps, 'sealer', 'webhooks'];
      await Promise.all(apps.map((app) => system.start(app, { PGAPPNAME: app })));
      const { api } = await system.team();
      const calls: { what: string; from: number; to: number }[] = [];
      const timed = async (what: string, status: number, call: () => Promise<Answer>) => {
        const from = performance.timeOrigin + performance.now();
        const answer = await call();
        calls.push({ what, from, to: performance.timeOrigin + performance.now() });
        if (answer.status !== status) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
        return answer.body as { data: { id: string } };
      };
      for (let i = 0; i < Number(values.domains); i++) {
        const body = await timed('add', 201, () => api.add(`t${i}.example.com`));
        await system.sandbox.place(body);
        await delay(30);
        await timed('verify', 200, () => api.verify(body.data.id));
        await delay(30);
        await timed('delete', 200, () => api.delete(body.data.id));
        await delay(30);
      }
      await delay(2_500);
      const steps = statementsOf(logged);
      for (const { service, name, startMs, endMs, attributes } of receiver.spans)
        steps.push({
          from: startMs,
          to: endMs,
          who: service,
          what: `${name} ${attributes['sendmux.task.of'] ? '(task)' : ''}`,
        });
      for (const what of ['add', 'verify', 'delete']) {
        const half = calls.slice(calls.length >> 1).filter((call) => call.what === what);
        const middle = median(half.map(({ from, to }) => to - from));
        // The one that took most nearly as long as half of them.
        const distance = ({ from, to }: { from: number; to: number }) => Math.abs(to - from - middle);
        const [typical] = half.toSorted((a, b) => distance(a) - distance(b));
        print(what, typical!, steps);
      }
    } finally {
      await system.end();
    }
  } finally {
    await receiver.close();
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

function print(what: string, { from, to }: { from: number; to: number }, steps: readonly Step[]): void {
  console.log(`\n${what}: ${(to - from).toFixed(1)} ms`);
  const during = steps.filter((step) => step.to >= from - 1 && step.from <= to + 3);
  for (const step of during.toSorted((a, b) => a.from - b.from)) {
    const [begins, took] = [step.from - from, step.to - step.from].map((ms) => ms.toFixed(1).padStart(6));
    console.log(`${begins} ${took}  ${step.who.padEnd(28)} ${step.what}`);
  }
}

void main();
