import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const root = resolve(__dirname, '..');
const documents = execFileSync('git', ['ls-files', '-z', '--', '*.md'], { cwd: root, encoding: 'utf8' })
  .split('\0')
  .filter((name) => name !== '');
const read = (name: string) => readFileSync(join(root, name), 'utf8');

/** Gives the names that GitHub gives the headings of a document. */
const anchors = (text: string): string[] =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/ /g, '-'),
  );

/** Gives the links of a document that lead to no file or no heading of the repository. */
function broken(name: string, text: string): string[] {
  const prose = text.replace(/```[^]*?```/g, '').replace(/`[^`\n]*`/g, '');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link]) => {
    if (/^[a-z]+:/.test(link!)) return [];
    const [file, anchor] = link!.split('#') as [string, string?];
    const target = file === '' ? name : relative(root, resolve(root, dirname(name), file));
    const leads =
      existsSync(join(root, target)) &&
      (anchor === undefined || anchors(file === '' ? text : read(target)).includes(anchor));
    return leads ? [] : [`${name}: ${link}`];
  });
}

it('every link of a document leads to a file, and to a heading that it has', () => {
  expect(documents.length).toBeGreaterThan(20);
  expect(documents.flatMap((name) => broken(name, read(name)))).toEqual([]);
});

it('finds a link that leads nowhere', () => {
  const text =
    '# One thing\n[a](#one-thing) [b](#other) [c](README.md) [d](none.md) [e](https://example.com) `[f](none)`';
  expect(broken('README.md', text)).toEqual(['README.md: #other', 'README.md: none.md']);
});

it('each decision has a number of its own, which its title begins with', () => {
  const decisions = readdirSync(join(root, 'docs/decisions'));
  const numbers = decisions.map((name) => Number(/^(\d{4})-/.exec(name)?.[1]));
  expect(new Set(numbers).size).toBe(decisions.length);
  for (const [i, name] of decisions.entries())
    expect(read(`docs/decisions/${name}`).split('\n')[0]).toMatch(new RegExp(`^# ${numbers[i]}\\. `));
});

it('docs/architecture.md has a row for each lib', () => {
  const table = read('docs/architecture.md')
    .split('\n')
    .filter((line) => line.startsWith('| `libs/'))
    .map((line) => line.split(' | ')[0]);
  const libs = readdirSync(join(root, 'libs'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(libs.map(({ name }) => `libs/${name}`).filter((lib) => !table.join().includes(`\`${lib}\``))).toEqual([]);
});
