import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import { notation } from './support/alarm-recording';
import { prometheusIsInstalled, promtool } from './support/prometheus';

const root = resolve(__dirname, '..');
const ops = join(root, 'ops/prometheus');

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string }[];
}
const dashboard = JSON.parse(readFileSync(join(root, 'ops/grafana/dashboard.json'), 'utf8')) as {
  panels: readonly Panel[];
  templating: { list: readonly { name: string }[] };
};

let directory: string;
beforeAll(() => void (directory = mkdtempSync(join(tmpdir(), 'sendmux-rules-'))));
afterAll(() => rmSync(directory, { recursive: true }));

/** Has `promtool` judge. Skipped where it is not installed: see tools/install-counterparts. */
(prometheusIsInstalled() ? describe : describe.skip)('the rules for Prometheus', () => {
  it('are valid, and so is the example of scraping', () => {
    expect(promtool('check', 'config', join(ops, 'prometheus.yml'))).toMatchObject({
      status: 0,
      said: expect.stringContaining('3 rule files found') as string,
    });
  });

  const tests = readdirSync(join(ops, 'tests')).filter((name) => name.endsWith('.yml'));

  it.each(tests)('do what %s says', (name) => {
    expect(promtool('test', 'rules', join(ops, 'tests', name))).toMatchObject({ status: 0 });
  });

  it('fail these tests where one fault would be two alarms', () => {
    cpSync(ops, join(directory, 'prometheus'), { recursive: true });
    const rules = join(directory, 'prometheus/rules/service-levels.yml');
    const text = readFileSync(rules, 'utf8');
    writeFileSync(rules, text.replace(/ +unless on \(slo\) label_replace\(.*\n/g, ''));
    const file = join(directory, 'prometheus/tests/burn-rates.yml');
    const { tests: all, ...more } = parse(readFileSync(file, 'utf8')) as {
      tests: readonly { readonly name: string }[];
    };
    const about = all.filter(({ name }) => name === 'the same while Kafka acknowledges nothing, and after it');
    writeFileSync(file, stringify({ ...more, tests: about }));
    const { status, said } = promtool('test', 'rules', file);
    expect(status).not.toBe(0);
    expect(about).toHaveLength(1);
    expect(said).toContain('SendmuxBudgetBurnsFast');
  });

  it('are in the language of every expression of the dashboard', () => {
    const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    expect(expressions.length).toBeGreaterThan(50);
    const rules = expressions.map((expr) => ({
      record: 'panel:expression',
      expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$__range', '1h').replaceAll('$instance', '.*'),
    }));
    for (const [i, { expr }] of rules.entries()) expect([i, expr.includes('$')]).toEqual([i, false]);
    const file = join(directory, 'panels.yml');
    const unique = rules.map((rule, i) => ({ ...rule, record: `${rule.record}_${i}` }));
    writeFileSync(file, stringify({ groups: [{ name: 'panels', rules: unique }] }));
    expect(promtool('check', 'rules', file)).toMatchObject({ status: 0 });
  });
});

describe('the dashboard for Grafana', () => {
  it('is what tools/dashboard.mjs makes', () => {
    expect(spawnSync(process.execPath, ['tools/dashboard.mjs', '--check'], { cwd: root }).status).toBe(0);
  });

  it('has panels with ids of their own, side by side, each with something to show', () => {
    const { panels } = dashboard;
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const places = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`),
    );
    expect(new Set(places).size).toBe(places.length);
    for (const { type, targets = [], gridPos } of panels) {
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      expect(targets.length > 0).toBe(type !== 'row');
    }
  });
});

it.each<[(number | undefined)[], string]>([
  [[0, 0, 0, 0], '0+0x3'],
  [[1, 3, 5, 5, 2], '1+2x2 5-3x1'],
  [[undefined, undefined, 4], '_x2 4'],
  [[7, undefined, undefined, undefined, 1], '7 stale _x2 1'],
])('values %j are written for promtool as %s', (values, text) => {
  expect(notation(values)).toBe(text);
});
