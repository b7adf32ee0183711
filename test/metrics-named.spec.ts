import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { parse } from 'yaml';

const root = resolve(__dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const filesBelow = (folder: string, form: RegExp): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => form.test(name))
    .map((name) => relative(root, join(root, folder, name)));

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}
const rules = filesBelow('ops/prometheus/rules', /\.yml$/).flatMap((file) =>
  (parse(read(file)) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules),
);
const alarms = rules.filter(({ alert }) => alert !== undefined);
const runbook = 'docs/operations/alarms.md';

/** Gives the metrics that the sources of the apps declare: each is given its whole name as a text. */
const declared = new Set(
  [...filesBelow('apps', /(?<!spec)\.ts$/), ...filesBelow('libs', /(?<!spec)\.ts$/)].flatMap((file) =>
    [...read(file).matchAll(/'(sendmux_[a-z_]+)'/g)].map(([, name]) => name!),
  ),
);
const others = new Set(['sendmux_events', 'sendmux_session']);
for (const name of others) declared.delete(name);

/** Gives the metrics that a text names, without what a histogram adds to its own. */
const namedIn = (text: string): string[] =>
  [...text.matchAll(/\bsendmux_[a-z_]+[a-z]/g)].map(([name]) => {
    const [whole] = [name.replace(/_(bucket|count|sum)$/, '')];
    return declared.has(whole) ? whole : name;
  });

const places = {
  rules: rules.map(({ expr }) => expr).join('\n'),
  dashboard: read('ops/grafana/dashboard.json'),
  documents: filesBelow('docs/operations', /\.md$/).map(read).join('\n'),
};

/** Gives the names in a text that no app declares. */
const unknownIn = (text: string): string[] => [
  ...new Set(namedIn(text).filter((name) => !declared.has(name) && !others.has(name))),
];
/** Gives the metrics of the apps that neither a rule nor a panel looks at. */
const unwatched = (rulesAndPanels: string): string[] => {
  const named = new Set(namedIn(rulesAndPanels));
  return [...declared].filter((name) => !named.has(name));
};

describe('metrics and what looks at them', () => {
  it.each(Object.entries(places))('every metric that the %s name is one of an app', (_, text) => {
    expect(namedIn(text).length).toBeGreaterThan(20);
    expect(unknownIn(text)).toEqual([]);
  });

  it('every metric of an app is in a rule or a panel', () => {
    expect(declared.size).toBeGreaterThan(50);
    expect(unwatched(places.rules + places.dashboard)).toEqual([]);
  });

  it('every metric of the table of what to watch has an alarm, or is said to have none and why', () => {
    const table = read('docs/operations/running.md')
      .split('\n')
      .filter((line) => line.startsWith('| `'))
      .map((line) => line.split(' | ', 1)[0]!);
    const watched = new Set(namedIn(`${places.rules}\n${read(runbook).split('## What has no alarm')[1]!}`));
    const rows = new Set(namedIn(table.join('\n')));
    expect(rows.size).toBeGreaterThan(30);
    expect([...rows].filter((name) => !watched.has(name))).toEqual([]);
  });

  it('finds a name that no app has, and a metric that nothing looks at', () => {
    expect(unknownIn('rate(sendmux_nothing_total[5m]) > sendmux_domains')).toEqual(['sendmux_nothing_total']);
    const without = (places.rules + places.dashboard).replaceAll('sendmux_ses_throttles_total', '');
    expect(unwatched(without)).toEqual(['sendmux_ses_throttles_total']);
  });
});

describe('alarms and their runbook', () => {
  const sections = [...read(runbook).matchAll(/^### (\w+)$/gm)].map(([, name]) => name!);

  it('each alarm has a section, and each section an alarm', () => {
    expect(alarms.length).toBeGreaterThan(30);
    expect(alarms.map(({ alert }) => alert).sort()).toEqual(sections.sort());
  });

  it('each alarm is seen to fire by a test', () => {
    const tests = filesBelow('ops/prometheus/tests', /\.yml$/)
      .map(read)
      .join('\n');
    expect(alarms.map(({ alert }) => alert!).filter((name) => !new RegExp(`\\b${name}\\b`).test(tests))).toEqual([]);
  });

  it('each alarm says how grave it is, what it means and where to read on', () => {
    for (const { alert, labels, annotations } of alarms) {
      expect(labels?.severity).toMatch(/^(page|ticket)$/);
      expect(annotations?.summary).toBeTruthy();
      expect(annotations?.runbook).toBe(`${runbook}#${alert!.toLowerCase()}`);
    }
  });

  it('what alarms explain is what others ask for', () => {
    const asked = new Set(rules.flatMap(({ expr }) => [...expr.matchAll(/what="(\w+)"/g)].map(([, what]) => what!)));
    const levels = rules.flatMap(({ record, labels }) => (record === 'sendmux:slo_budget' ? [labels!.slo!] : []));
    const known = rules.flatMap(({ record, labels }) => (record === 'sendmux:explained' ? [labels!.what!] : []));
    expect(new Set(known)).toEqual(new Set([...asked, ...levels]));
    const said = alarms.flatMap(({ labels: { explains = '' } = {} }) =>
      explains.replace(/\{\{.*?\}\}/gs, ',').split(/[\s,]+/),
    );
    expect(said.filter((word) => word !== '' && word !== 'nothing' && !known.includes(word))).toEqual([]);
    expect(known.filter((word) => !said.includes(word))).toEqual([]);
  });

  it('documents name alarms that there are', () => {
    const named = [...places.documents.matchAll(/\bSendmux[A-Z]\w+/g)].map(([name]) => name);
    const names = alarms.map(({ alert }) => alert);
    expect(named.filter((name) => !names.includes(name))).toEqual([]);
  });
});

describe('the example of scraping', () => {
  it('scrapes every app on its port, under the name by which the rules go', () => {
    const { scrape_configs: jobs } = parse(read('ops/prometheus/prometheus.yml')) as {
      scrape_configs: { job_name: string; static_configs: { targets: string[] }[] }[];
    };
    const { services } = parse(read('docker-compose.yml'), { merge: true }) as {
      services: Record<string, { image?: string; healthcheck?: { test: string[] } }>;
    };
    const apps = Object.entries(services).filter(
      ([, { image, healthcheck }]) => image === 'sendmux-domains' && healthcheck,
    );
    expect(jobs.map(({ job_name, static_configs }) => [job_name, static_configs[0]!.targets])).toEqual(
      apps.map(([app, { healthcheck }]) => [`sendmux-${app}`, [`${app}:${healthcheck!.test.at(-1)}`]]),
    );
    expect(existsSync(join(root, 'ops/prometheus/rules'))).toBe(true);
  });
});
