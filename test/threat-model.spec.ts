import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(__dirname, '..');
const document = readFileSync(join(root, 'docs/threat-model.md'), 'utf8');

/** Gives the lines of the table of attempts: each is an attempt, what stops it, code, tests. */
const linesOf = (text: string): string[][] =>
  text
    .split('\n| attempt |')[1]!
    .split('\n\n')[0]!
    .split('\n')
    .slice(2)
    .map((line) => line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, '')));
const filesIn = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, file]) => file!);

/** Gives the faults of lines: files that are not there, and lines without code or without a test. */
const faultsOf = (text: string): string[] =>
  linesOf(text).flatMap(([attempt = '', , code = '', tests = '']) => {
    const [written, held] = [filesIn(code), filesIn(tests)];
    return [
      ...(written.length === 0 ? [`${attempt}: no code`] : []),
      ...(held.some((file) => file.endsWith('.spec.ts')) ? [] : [`${attempt}: no test`]),
      ...[...written, ...held].filter((file) => !existsSync(join(root, file))).map((file) => `${attempt}: no ${file}`),
    ];
  });

it('every line of the threat model has code and a test that are there', () => {
  expect(linesOf(document).length).toBeGreaterThan(20);
  expect(faultsOf(document)).toEqual([]);
});

it('finds a line without a test, and files that are not there', () => {
  const head = '\n| attempt | what | code | test |\n|---|---|---|---|\n';
  expect(faultsOf(`${head}| a | x | \`README.md\` | none |\n| b | x | \`no.ts\` | \`no.spec.ts\` |\n\n`)).toEqual([
    'a: no test',
    'b: no no.ts',
    'b: no no.spec.ts',
  ]);
});
