import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { rulesFolder, type Prometheus, type Series } from './prometheus';

/** Seconds between two scrapes in the field, and between two evaluations. */
const step = 15;

/** A fault that was made, by seconds since the epoch. */
export interface MadeFault {
  readonly name: string;
  readonly alarm: string;
  /** The beginning of the recording, the fault, and the end of the recording. */
  readonly from: number;
  readonly madeAt: number;
  readonly to: number;
  /** Texts of this system, such as a port, and what stands for them. */
  readonly renamed: readonly (readonly [RegExp, string])[];
}

/** Gives the names of the metrics in the expressions of the rules. */
export function metricsOfRules(): string[] {
  const text = readdirSync(rulesFolder)
    .map((file) => readFileSync(join(rulesFolder, file), 'utf8'))
    .join('\n');
  return [...new Set(text.match(/\bsendmux_[a-z_]+[a-z]\b/g)), 'up'];
}

/** Whether a rule looks at a series: some have more labels than any rule asks for. */
const isWanted = ({ labels }: Series): boolean => {
  const { __name__: name = '', le, route, priority } = labels;
  if (name.startsWith('sendmux_http_')) return route === '/api/v1/domains';
  if (name === 'sendmux_ses_wait_seconds_bucket')
    return priority === 'change' && ['1', '5', '10', '+Inf'].includes(le!);
  return le === undefined || ['1', '60', '3600'].includes(le);
};

/** Whether a series changes what a rule says: one that stays zero does where a rule asks for no increase. */
const counts = ({ labels, values }: Series): boolean =>
  /^(up|sendmux_relay_published_total|sendmux_events_handled_total)$/.test(labels.__name__!) ||
  [...values.values()].some((value) => value !== 0);

/** Writes values in the notation of `promtool`: runs by their first value, their step and their length. */
export function notation(values: readonly (number | undefined)[]): string {
  const tokens: string[] = [];
  for (let i = 0; i < values.length;) {
    const first = values[i];
    if (first === undefined) {
      let end = i;
      while (end < values.length && values[end] === undefined) end++;
      const gap = end - i;
      // A series that has ended has no value from then on; without the word its last value would go on for a while.
      if (i === 0) tokens.push(`_x${gap}`);
      else tokens.push('stale', ...(gap > 1 ? [`_x${gap - 1}`] : []));
      i = end;
      continue;
    }
    const by = values[i + 1] === undefined ? 0 : rounded(values[i + 1]! - first);
    let count = 0;
    while (values[i + count + 1] !== undefined && rounded(values[i + count + 1]! - values[i + count]!) === by) count++;
    tokens.push(count === 0 ? String(first) : `${first}${by < 0 ? '-' : '+'}${Math.abs(by)}x${count}`);
    i += count + 1;
  }
  return tokens.join(' ');
}

const rounded = (value: number): number => Math.round(value * 1_000) / 1_000;

/**
 * Writes the series of a fault as a test of `promtool`: nothing fires before it, its alarm alone does within two
 * minutes, and nothing does at the end.
 */
export async function record(prometheus: Prometheus, fault: MadeFault, file: string): Promise<void> {
  const { from, madeAt, to, alarm, name, renamed } = fault;
  const times = Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step);
  const all: Series[] = [];
  for (const metric of metricsOfRules()) all.push(...(await prometheus.range(metric, from, times.at(-1)!, step)));
  const input_series = all
    .filter((series) => isWanted(series) && counts(series))
    .map(({ labels: { __name__: metric, ...labels }, values }) => {
      const inside = Object.entries(labels).map(([label, value]) => `${label}=${JSON.stringify(value)}`);
      const series = `${metric}{${inside.sort().join(', ')}}`;
      return {
        series: renamed.reduce((text, [pattern, replacement]) => text.replace(pattern, replacement), series),
        values: notation(times.map((at) => (values.has(at) ? rounded(values.get(at)!) : undefined))),
      };
    });
  const after = (seconds: number) => `${Math.floor((madeAt - from + seconds) / step) * step}s`;
  const firing = 'group by (alertname) (ALERTS{alertstate="firing"})';
  const everFired = `group by (alertname) (count_over_time(ALERTS{alertstate="firing"}[1h]))`;
  const one = [{ labels: `{alertname="${alarm}"}`, value: 1 }];
  const end = `${(times.length - 1) * step}s`;
  const test = {
    name,
    interval: `${step}s`,
    input_series: input_series.sort((a, b) => (a.series < b.series ? -1 : 1)),
    promql_expr_test: [
      { expr: firing, eval_time: after(-step), exp_samples: [] },
      { expr: firing, eval_time: after(105), exp_samples: one },
      { expr: firing, eval_time: end, exp_samples: [] },
      { expr: everFired, eval_time: end, exp_samples: one },
    ],
  };
  writeFileSync(
    file,
    `# Recorded from a real fault by RECORD=1 (test/alarms.spec.ts).\n` +
      stringify(
        { rule_files: ['../rules/*.yml'], evaluation_interval: `${step}s`, tests: [test] },
        { lineWidth: 0, aliasDuplicateObjects: false },
      ),
  );
}
