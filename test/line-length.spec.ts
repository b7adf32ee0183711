import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(__dirname, '..');
const most = 120;

/** Lists the files of the repository with one of the extensions. */
const files = (...extensions: string[]): string[] =>
  execFileSync('git', ['ls-files', '-z', '--', ...extensions.map((each) => `*.${each}`)], {
    cwd: root,
    encoding: 'utf8',
  })
    .split('\0')
    .filter((name) => name !== '');

/** Gives the places of lines that are too long, of those that count. */
function tooLong(name: string, text: string, counts: (line: string, isCode: boolean) => boolean): string[] {
  let isCode = false;
  return text.split('\n').flatMap((line, i) => {
    if (/^\s*```/.test(line)) isCode = !isCode;
    return [...line].length > most && counts(line, isCode) ? [`${name}:${i + 1}`] : [];
  });
}

const inProse = (line: string, isCode: boolean) => !isCode && !line.startsWith('|');
const inComment = (line: string) => /^\s*(\*|\/\*\*|\/\/)/.test(line) && !line.includes('eslint-');

it.each([
  ['prose', inProse, ['md']],
  ['comments', inComment, ['ts', 'tsx', 'css', 'mjs', 'cjs']],
] as const)('no line of %s is longer than 120 columns', (_, counts, extensions) => {
  const all = files(...extensions);
  expect(all.length).toBeGreaterThan(5);
  expect(all.flatMap((name) => tooLong(name, readFileSync(join(root, name), 'utf8'), counts))).toEqual([]);
});

it('finds a line that is too long, and none in a table or in code', () => {
  const long = 'x'.repeat(most + 1);
  expect(tooLong('a.md', `x\n${long}\n|${long}\n\`\`\`\n${long}\n\`\`\``, inProse)).toEqual(['a.md:2']);
  expect(tooLong('a.ts', `${long}\n  // ${long}\n /** ${long} */`, inComment)).toEqual(['a.ts:2', 'a.ts:3']);
});
