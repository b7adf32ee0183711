import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const root = resolve(__dirname, '..');

/** Looks whether each bug of `tools/peer-bugs.mjs` can be planted in a tree, and has its test there. */
const check = (tree: string) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['tools/plant-bugs.mjs', '--check'], {
    cwd: tree,
    encoding: 'utf8',
  });
  return { status, said: stdout + stderr };
};

describe('the bugs of peers', () => {
  it('can all be planted, and each has its test', () => {
    expect(check(root)).toEqual({ status: 0, said: '16 bugs can be planted, and have their tests.\n' });
  });

  it('are all in docs/mutants.md, each with its test', () => {
    const document = readFileSync(join(root, 'docs/mutants.md'), 'utf8');
    const rows = [...document.matchAll(/^\| `([\w-]+)` \| .+ \| `(.+\.spec\.ts)`: (.+) \|$/gm)];
    const listed = readFileSync(join(root, 'tools/peer-bugs.mjs'), 'utf8');
    const bugs = [...listed.matchAll(/ {4}name: '(.+)',[^]*?file: '(.+\.spec\.ts)',\n\s+title: '(.+)',/g)];
    expect(bugs).toHaveLength(16);
    expect(rows.map((row) => row.slice(1, 4))).toEqual(bugs.map((bug) => bug.slice(1, 4)));
  });

  it('are missed when the code or the title that they name has changed', () => {
    const tree = mkdtempSync(join(tmpdir(), 'peer-bugs-'));
    const copy = (name: string, change = (text: string) => text) => {
      mkdirSync(dirname(join(tree, name)), { recursive: true });
      writeFileSync(join(tree, name), change(readFileSync(join(root, name), 'utf8')));
    };
    try {
      for (const name of ['apps', 'libs']) cpSync(join(root, name), join(tree, name), { recursive: true });
      for (const name of ['plant-bugs', 'peer-bugs']) copy(`tools/${name}.mjs`);
      copy('libs/mail-domain/mail-domain.ts', (text) => text.replace('>= strikesToFail', '> strikesToFail'));
      copy('libs/mail-records/judge.spec.ts', (text) => text.replace('H10 no resolver answers', 'H10 none answers'));
      expect(check(tree)).toEqual({
        status: 1,
        said: `outage-is-no-record: libs/mail-records/judge.spec.ts has no test 'H10 no resolver answers: nobody can tell, and nothing is decided'
blip-mails cannot be planted: libs/mail-domain/mail-domain.ts has this 0 times:\nscheduled && strikesAfter(state, broken) >= strikesToFail\n`,
      });
    } finally {
      rmSync(tree, { recursive: true });
    }
  });
});
