import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync, cpSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const root = resolve(__dirname, '..');
const { forbidden } = jest.requireActual<{ forbidden: { name: string }[] }>('../.dependency-cruiser.cjs');

/** For each rule, files that break it and no other, the guilty one first: path and text. */
const planted: Record<string, Record<string, string>> = {
  'model-is-pure': { 'libs/mail-domain/planted.ts': "import 'node:fs';" },
  'accounts-arrows': { 'libs/accounts/planted.ts': "import '@app/mail-domain';" },
  'audit-arrows': { 'libs/audit/planted.ts': "import '@app/mail-domain';" },
  'commands-arrows': { 'libs/commands/planted.ts': "import '@app/accounts';" },
  'cycle-arrows': { 'libs/cycle/planted.ts': "import '@app/mail-domain';" },
  'database-arrows': { 'libs/database/planted.ts': "import '@app/event-store';" },
  'dns-arrows': { 'libs/dns/planted.ts': "import '@app/runtime';" },
  'event-store-arrows': { 'libs/event-store/planted.ts': "import '@app/mail-domain';" },
  'mail-server-arrows': { 'libs/mail-server/planted.ts': "import '@app/mail-domain';" },
  'mail-domain-first': { 'libs/mail-domain/planted-mailbox.ts': "import '@app/mailbox';" },
  'messaging-arrows': { 'libs/messaging/planted.ts': "import '@app/mail-domain';" },
  'read-model-arrows': { 'libs/read-model/planted.ts': "import '@app/accounts';" },
  'rebuild-arrows': { 'libs/rebuild/planted.ts': "import '@app/mail-domain';" },
  'runtime-arrows': { 'libs/runtime/planted.ts': "import '@app/dns';" },
  'ses-arrows': { 'libs/ses/planted.ts': "import '@app/mail-domain';" },
  'tasks-arrows': { 'libs/tasks/planted.ts': "import '@app/mail-domain';" },
  'verification-arrows': { 'libs/verification/planted.ts': "import '@app/accounts';" },
  'libs-through-index': { 'apps/notifier/planted.ts': "import '../../libs/runtime/ids';" },
  'apps-apart': {
    'apps/cli/planted.ts': "import '../sandbox/planted';",
    'apps/sandbox/planted.ts': 'export const planted = 1;',
  },
  'gateway-knows-no-counterpart': { 'apps/gateway/planted.ts': "import '@app/ses';" },
  'one-sdk-one-place': { 'apps/provisioning/planted.ts': "import '@aws-sdk/client-sesv2';" },
  'one-kafka-client-one-place': { 'libs/messaging/planted-client.ts': "import 'kafkajs';" },
  'no-cycles': {
    'libs/tasks/planted-a.ts': "import './planted-b';\nexport const a = 1;",
    'libs/tasks/planted-b.ts': "import './planted-a';\nexport const b = 1;",
  },
};

interface Report {
  summary: { violations: { from: string; rule: { name: string } }[]; totalCruised: number };
}

/** dependency-cruiser as `npm run boundaries` calls it, in a copy of the tree with these files added. */
function cruise(files: Record<string, string>): Report {
  const copy = mkdtempSync(join(tmpdir(), 'sendmux-boundaries-'));
  try {
    for (const name of ['apps', 'libs', 'local', 'test', '.dependency-cruiser.cjs', 'tsconfig.json', 'package.json'])
      cpSync(join(root, name), join(copy, name), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(copy, path)), { recursive: true });
      writeFileSync(join(copy, path), `${text}\n`);
    }
    const { stdout, stderr } = spawnSync(
      join(root, 'node_modules/.bin/depcruise'),
      [
        '--config',
        '.dependency-cruiser.cjs',
        '--preserve-symlinks',
        '--output-type',
        'json',
        'apps',
        'libs',
        'local',
        'test',
      ],
      { cwd: copy, encoding: 'utf8', maxBuffer: 64 * 1_048_576 },
    );
    if (!stdout.startsWith('{')) throw new Error(`dependency-cruiser: ${stdout}${stderr}`);
    return JSON.parse(stdout) as Report;
  } finally {
    rmSync(copy, { recursive: true });
  }
}

describe('boundaries', () => {
  it('have a planted violation for each rule', () => {
    expect(Object.keys(planted).sort()).toEqual(forbidden.map(({ name }) => name).sort());
  });

  it('are kept, and it is the whole tree that keeps them', () => {
    const report = cruise({});
    expect(report.summary.violations).toEqual([]);
    expect(report.summary.totalCruised).toBeGreaterThan(50);
  }, 60_000);

  // One cruise for all: it costs seconds, and a planted file is imported by nobody but its own.
  it('catch each planted violation by its own rule alone', () => {
    const report = cruise(Object.assign({}, ...Object.values(planted)) as Record<string, string>);
    const caught = report.summary.violations.map(({ from, rule }) => `${rule.name}: ${from}`);
    const expected = Object.entries(planted).map(([rule, files]) => `${rule}: ${Object.keys(files)[0]}`);
    expect(caught.sort()).toEqual(expected.sort());
  }, 60_000);
});
