import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync, cpSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const root = resolve(__dirname, '..');
const { forbidden } = jest.requireActual<{ forbidden: { name: string }[] }>('../.dependency-cruiser.cjs');

type Files = Record<string, string>;

/** Lists violations for each rule: files by path and text, the first of which breaks this rule and no other. */
const planted: Record<string, Files | readonly Files[]> = {
  'model-is-pure': { 'libs/mail-domain/planted.ts': "import 'node:fs';" },
  'accounts-arrows': { 'libs/accounts/planted.ts': "import '@app/mail-domain';" },
  'audit-arrows': { 'libs/audit/planted.ts': "import '@app/mail-domain';" },
  'commands-arrows': { 'libs/commands/planted.ts': "import '@app/accounts';" },
  'cycle-arrows': { 'libs/cycle/planted.ts': "import '@app/mail-domain';" },
  'database-arrows': { 'libs/database/planted.ts': "import '@app/event-store';" },
  'decider-arrows': { 'libs/decider/planted.ts': "import '@app/mail-domain';" },
  'dns-arrows': { 'libs/dns/planted.ts': "import '@app/runtime';" },
  'domain-connect-arrows': { 'libs/domain-connect/planted.ts': "import '@app/accounts';" },
  'erasure-arrows': { 'libs/erasure/planted.ts': "import '@app/mailbox';" },
  'event-store-arrows': { 'libs/event-store/planted.ts': "import '@app/mail-domain';" },
  'ip-addresses-arrows': { 'libs/ip-addresses/planted.ts': "import '@app/runtime';" },
  'mail-server-arrows': { 'libs/mail-server/planted.ts': "import '@app/mail-domain';" },
  'mail-domain-arrows': { 'libs/mail-domain/planted-mailbox.ts': "import '@app/mailbox';" },
  'mail-records-arrows': { 'libs/mail-records/planted.ts': "import type {} from '@app/mailbox';" },
  'mailbox-keys-arrows': { 'libs/mailbox-keys/planted.ts': "import '@app/read-model';" },
  'messaging-arrows': { 'libs/messaging/planted.ts': "import '@app/mail-domain';" },
  'presentation-arrows': { 'libs/presentation/planted.ts': "import '@app/accounts';" },
  'process-arrows': { 'libs/process/planted.ts': "import '@app/database';" },
  'command-line-runs-no-process': { 'apps/cli/planted-process.ts': "import '@app/process';" },
  'read-model-arrows': { 'libs/read-model/planted.ts': "import '@app/accounts';" },
  'rebuild-arrows': { 'libs/rebuild/planted.ts': "import '@app/mail-domain';" },
  'runtime-arrows': { 'libs/runtime/planted.ts': "import '@app/dns';" },
  'secret-keys-arrows': { 'libs/secret-keys/planted.ts': "import '@app/database';" },
  'sender-rules-arrows': { 'libs/sender-rules/planted.ts': "import '@app/mail-domain';" },
  'ses-arrows': { 'libs/ses/planted.ts': "import '@app/mail-domain';" },
  'ses-writer-arrows': { 'libs/ses-writer/planted.ts': "import '@app/mail-domain';" },
  'subscriptions-arrows': { 'libs/subscriptions/planted.ts': "import '@app/commands';" },
  'tasks-arrows': { 'libs/tasks/planted.ts': "import '@app/mail-domain';" },
  'tracing-arrows': { 'libs/tracing/planted.ts': "import '@app/database';" },
  'verification-arrows': { 'libs/verification/planted.ts': "import '@app/accounts';" },
  'webhooks-arrows': { 'libs/webhooks/planted.ts': "import '@app/mail-domain';" },
  'libs-through-index': { 'apps/notifier/planted.ts': "import '../../libs/runtime/ids';" },
  'apps-apart': {
    'apps/cli/planted.ts': "import '../sandbox/planted';",
    'apps/sandbox/planted.ts': 'export const planted = 1;',
  },
  'one-process-of-apps': { 'apps/all-in-one/planted.ts': "import '../notifier/letter';" },
  'migrations-from-apps': { 'apps/cli/migrations.ts': "import '../notifier/letter';" },
  'web-apart': { 'web/shared/planted.ts': "import '../../libs/planted-plain';", 'libs/planted-plain.ts': '' },
  'pages-run-in-browsers': { 'web/shared/planted-core.ts': "import 'node:fs';" },
  'pages-are-files': { 'apps/notifier/planted-page.ts': "import '../../web/shared/names';" },
  'gateway-knows-no-counterpart': [
    { 'apps/gateway/planted.ts': "import '@app/ses';" },
    { 'apps/gateway/planted-sdk.spec.ts': "import '@aws-sdk/client-sesv2';" },
    { 'apps/gateway/planted-kafkajs.spec.ts': "import 'kafkajs';" },
    { 'apps/gateway/planted-kafka.spec.ts': "import '@platformatic/kafka';" },
  ],
  'gateway-writes-to-no-counterpart': {
    'apps/gateway/planted-detour.ts': "import '../../libs/planted';",
    'libs/planted/index.ts': "import './detour';",
    'libs/planted/detour.ts': "import '@app/ses-writer';",
  },
  'one-sdk-one-place': [
    { 'apps/provisioning/planted.ts': "import '@aws-sdk/client-sesv2';" },
    { 'libs/messaging/planted-sdk.ts': "import '@aws-sdk/credential-provider-node';" },
    { 'libs/messaging/planted-signature.ts': "import '@smithy/signature-v4';" },
  ],
  'one-door-for-commands': { 'apps/notifier/planted-bus.ts': "import '@nestjs/cqrs';" },
  'one-kafka-client-one-place': [
    { 'libs/messaging/planted-client.ts': "import 'kafkajs';" },
    { 'libs/messaging/planted-second-client.ts': "import '@platformatic/kafka';" },
  ],
  'traces-are-loaded-on-demand': { 'libs/tracing/planted-api.ts': "import '@opentelemetry/api';" },
  'one-door-for-metrics': { 'apps/notifier/planted-metric.ts': "import 'prom-client';" },
  'product-packages': { 'apps/notifier/planted-package.ts': "import 'smtp-server';" },
  'no-cycles': {
    'libs/tasks/planted-a.ts': "import type { b } from './planted-b';\nexport type A = typeof b;",
    'libs/tasks/planted-b.ts': "import type { A } from './planted-a';\nexport const b = 1 as unknown as A[];",
  },
};

interface Report {
  summary: { violations: { from: string; rule: { name: string } }[]; totalCruised: number };
}

/** Runs a tool in a copy of the tree with these files added; gives its output. */
function inCopy(files: Files, tool: string, args: readonly string[]): string {
  const copy = mkdtempSync(join(tmpdir(), 'sendmux-boundaries-'));
  try {
    const configs = ['.dependency-cruiser.cjs', 'eslint.config.mjs', 'tsconfig.json', 'package.json'];
    for (const name of ['apps', 'libs', 'local', 'test', 'tools', 'web', ...configs])
      cpSync(join(root, name), join(copy, name), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(copy, path)), { recursive: true });
      writeFileSync(join(copy, path), `${text}\n`);
    }
    const { stdout, stderr } = spawnSync(join(root, 'node_modules/.bin', tool), args, {
      cwd: copy,
      encoding: 'utf8',
      maxBuffer: 64 * 1_048_576,
    });
    if (!/^[{[]/.test(stdout)) throw new Error(`${tool}: ${stdout}${stderr}`);
    return stdout;
  } finally {
    rmSync(copy, { recursive: true });
  }
}

/** Runs dependency-cruiser as `npm run boundaries` does. */
function cruise(files: Files): Report {
  const how = ['--config', '.dependency-cruiser.cjs', '--preserve-symlinks', '--output-type', 'json'];
  return JSON.parse(inCopy(files, 'depcruise', [...how, 'apps', 'libs', 'local', 'test', 'web'])) as Report;
}

describe('boundaries', () => {
  it('have a planted violation for each rule', () => {
    expect(Object.keys(planted).sort()).toEqual(forbidden.map(({ name }) => name).sort());
  });

  // One run serves all rules and the tree itself, because it takes seconds. The planted files of a rule are imported by
  // that rule's files only. `npm run boundaries` looks at the one file that a planted one replaces.
  it('catch each planted violation by its own rule alone, and are kept by the rest of the whole tree', () => {
    const report = cruise(Object.assign({}, ...Object.values(planted).flat()) as Files);
    const caught = report.summary.violations.map(({ from, rule }) => `${rule.name}: ${from}`);
    const expected = Object.entries(planted).flatMap(([rule, violations]) =>
      [violations].flat().map((files) => `${rule}: ${Object.keys(files)[0]}`),
    );
    expect(caught.sort()).toEqual(expected.sort());
    expect(report.summary.totalCruised).toBeGreaterThan(50);
  });
});

interface LintResult {
  readonly filePath: string;
  readonly messages: readonly { readonly ruleId: string | null; readonly line: number }[];
}

describe('the lint rules of this repository', () => {
  const driver = "import { Client, Pool as Waters, type PoolClient } from 'pg';";
  /** The text of each file, and the rules that a line of it breaks: its last one, unless another one is named. */
  const cases: Record<string, { text: string; breaks: string[] }> = {
    'libs/tasks/planted-pool.ts': {
      text: `${driver}\nexport const planted = (sea: Waters) => sea.connect();`,
      breaks: ['sendmux/one-way-to-the-database'],
    },
    'libs/tasks/planted-part.ts': {
      text: `${driver}\nexport const planted = (sea: Pick<Waters, 'connect'>) => sea.connect();`,
      breaks: ['sendmux/one-way-to-the-database'],
    },
    'apps/cli/planted-method.ts': {
      text: `${driver}\nexport const planted = (sea: Waters): (() => Promise<PoolClient>) => sea.connect.bind(sea);`,
      breaks: ['sendmux/one-way-to-the-database'],
    },
    'apps/notifier/planted-pool.ts': {
      text: `${driver}\nexport const planted = new Waters();`,
      breaks: ['sendmux/one-way-to-the-database'],
    },
    'local/planted-client.ts': {
      text: `${driver}\nexport const planted = new Client();`,
      breaks: ['sendmux/one-way-to-the-database'],
    },
    'apps/notifier/planted-table.ts': {
      text: 'export const planted = (id: string) => `SELECT FROM domains WHERE id = ${id}`;',
      breaks: ['sendmux/tables-at-home'],
    },
    'libs/messaging/planted-table.ts': {
      text: "export const planted = 'DELETE FROM tasks';",
      breaks: ['sendmux/tables-at-home'],
    },
    'libs/read-model/planted-own-table.ts': {
      text: "export const planted = 'SELECT FROM mailboxes JOIN domains USING (id)';",
      breaks: [],
    },
    'libs/tasks/planted-order.ts': {
      text: "export const planted = 'SELECT due::float8 AS due, key FROM tasks ORDER BY key, due LIMIT 1';",
      breaks: ['sendmux/order-by-columns'],
    },
    'libs/event-store/planted-order.ts': {
      text:
        "import { eventColumns } from './event-log';\n" +
        'export const planted = `SELECT ${eventColumns} FROM events ORDER BY position`;',
      breaks: ['sendmux/order-by-columns'],
    },
    'libs/audit/planted-column-order.ts': {
      text: "export const planted = 'SELECT position::float8 AS position FROM events ORDER BY events.position';",
      breaks: [],
    },
    'libs/tasks/planted-overlap.ts': {
      text: 'export const planted = /^[ \\t,]+[; \\t]*!/;',
      breaks: ['regexp/no-super-linear-backtracking'],
    },
    'libs/tasks/planted-parts.ts': {
      text: 'const part = String.raw`[ \\t,]+`;\nexport const planted = new RegExp(String.raw`^${part}[; \\t]*!`);',
      breaks: ['regexp/no-super-linear-backtracking'],
    },
    'apps/cli/planted-end.ts': {
      text: "export const planted = (text: string) => text.replace(/\\s+$/, '');",
      breaks: ['regexp/no-super-linear-move'],
    },
    'apps/cli/planted-start.ts': {
      text: "export const planted = (text: string) => text.replace(/^\\s+/, '');",
      breaks: [],
    },
    'apps/cli/planted-print.ts': {
      text: 'export const planted = (text: string) => process.stdout.write(text);',
      breaks: ['no-restricted-properties'],
    },
    'apps/cli/planted-stream.ts': {
      text: 'const { stderr } = process;\nexport const planted = (text: string) => stderr.write(text);',
      breaks: ['no-restricted-properties 1'],
    },
    'apps/cli/planted-import.ts': {
      text: "import { stdout } from 'node:process';\nexport const planted = (text: string) => stdout.write(text);",
      breaks: ['no-restricted-imports 1'],
    },
    'apps/cli/planted-console.ts': {
      text: 'export const planted = (text: string) => console.log(text);',
      breaks: ['no-console'],
    },
    'apps/cli/planted-pattern.ts': {
      text: "import { EventPattern } from '@nestjs/microservices';\nexport const planted = EventPattern;",
      breaks: ['no-restricted-imports 1'],
    },
    'libs/tasks/planted-print.ts': {
      text: 'export const planted = (text: string) => process.stdout.write(text);',
      breaks: [],
    },
    'libs/tasks/planted-other.ts': {
      text: `${driver}\nexport const planted = (far: { connect(): void }) => far.connect();`,
      breaks: [],
    },
  };

  it('catch each planted violation, and nothing that only looks like one', () => {
    const files = Object.fromEntries(Object.entries(cases).map(([path, { text }]) => [path, text]));
    const results = JSON.parse(inCopy(files, 'eslint', ['--format', 'json', ...Object.keys(files)])) as LintResult[];
    const caught = results.map(({ filePath, messages }) => [
      Object.keys(files).find((path) => filePath.endsWith(`/${path}`)),
      messages
        .filter(
          ({ ruleId }) =>
            ruleId && /^(sendmux\/|regexp\/|no-restricted-(imports|properties)$|no-console$)/.test(ruleId),
        )
        .map(({ ruleId, line }) => `${ruleId} ${line}`),
    ]);
    expect(Object.fromEntries(caught)).toEqual(
      Object.fromEntries(
        Object.entries(cases).map(([path, { text, breaks }]) => [
          path,
          breaks.map((rule) => (rule.includes(' ') ? rule : `${rule} ${text.split('\n').length}`)),
        ]),
      ),
    );
  });
});
