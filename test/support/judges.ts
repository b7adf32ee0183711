import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import fc from 'fast-check';

const root = resolve(__dirname, '../..');
const folder = join(root, 'test/judges');

/** The Python that the judges run on; undefined where they are not installed: tools/install-counterparts. */
export const python: string | undefined =
  spawnSync(join(root, 'tools/install-counterparts'), ['--judges'], { encoding: 'utf8' }).stdout.trim() || undefined;

/** Describes what needs the judges, and is skipped without them. */
export const describeJudged = python ? describe : describe.skip;

/**
 * Every case of a judge comes from this seed, so that a difference comes again. `JUDGES_SEED` asks for others, and
 * `JUDGES_CASES` for so many times more.
 */
const seed = Number(process.env.JUDGES_SEED ?? 17);
const times = Number(process.env.JUDGES_CASES ?? 1);

/** Gives so many cases, the same each time. */
export const casesOf = <Case>(arbitrary: fc.Arbitrary<Case>, count: number): Case[] =>
  fc.sample(arbitrary, { seed, numRuns: count * times });

/** One of the words of a text, as often as it stands there; `∅` is nothing, `␠` a space. */
export const anyOf = (words: string): fc.Arbitrary<string> =>
  fc.constantFrom(...words.split(' ').map((word) => word.replace('∅', '').replaceAll('␠', ' ')));

/** The texts of all parts, one after the other. */
export const joined = (...parts: fc.Arbitrary<string>[]): fc.Arbitrary<string> =>
  fc.tuple(...parts).map((all) => all.join(''));

/**
 * Asks a judge about each of the cases: one process reads them all, a line of JSON each. Octets travel as one character
 * each.
 *
 * @param judge a file of test/judges.
 * @returns what it says, in the order of the cases.
 * @throws {Error} with what it wrote, when it breaks.
 */
export function ask<Said>(judge: string, cases: readonly unknown[]): Said[] {
  const { status, stdout, stderr } = spawnSync(python!, ['-I', '-B', join(folder, 'lines.py'), join(folder, judge)], {
    input: cases.map((each) => `${JSON.stringify(each)}\n`).join(''),
    encoding: 'utf8',
    maxBuffer: 1 << 30,
  });
  if (status !== 0) throw new Error(`${judge} broke:\n${stderr}`);
  const said = stdout.split('\n').slice(0, -1);
  if (said.length !== cases.length) throw new Error(`${judge} answered ${said.length} of ${cases.length}:\n${stderr}`);
  return said.map((line) => JSON.parse(line) as Said);
}

/** A difference that is meant. */
export interface Meant<Case> {
  /** Why ours differs. */
  readonly reason: string;
  readonly is: (judged: Case) => boolean;
}

/**
 * Holds all that differs against the list of what is meant: a difference without a reason fails, and so does a reason
 * that no case needs any more. Prints how many were judged.
 */
export function expectOnlyMeant<Case>(
  judge: string,
  count: number,
  differing: readonly Case[],
  meant: readonly Meant<Case>[] = [],
): void {
  const unexplained = differing.filter((each) => !meant.some(({ is }) => is(each)));
  const counts = meant.map(({ reason, is }) => ({ reason, count: differing.filter(is).length }));
  report(
    `${judge}: ${count} cases of seed ${seed}, ${unexplained.length} differ, ${differing.length - unexplained.length} as meant`,
  );
  expect(unexplained.slice(0, 20)).toEqual([]);
  expect(counts.filter(({ count }) => count === 0)).toEqual([]);
}

/** Prints a line here, and in the summary of `make test`. */
export function report(line: string): void {
  process.stderr.write(`${line}\n`);
  mkdirSync(join(root, 'test-results'), { recursive: true });
  appendFileSync(join(root, 'test-results/judges.txt'), `${line}\n`);
}
