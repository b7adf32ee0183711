/** A ratio that a bench has measured, which `make bench --compare` compares with the kept one. */
export interface Figure {
  /** What is compared with what, such as `append, 8 writers, to pgbench`. It is the same in every run. */
  readonly name: string;
  /** The ratio of each round; the median of them counts. */
  readonly rounds: readonly number[];
  /** Which ratio is the better one: of two rates the higher, of two times the lower. */
  readonly better: 'higher' | 'lower';
}

/** Gives the number of some that is above a share of them, such as 0.99. */
export const quantile = (numbers: readonly number[], share: number): number =>
  [...numbers].sort((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(numbers.length * share))]!;

/** Gives the middle one of some numbers, the upper one of an even number of them. */
export const median = (numbers: readonly number[]): number => quantile(numbers, 0.5);

/** Gives a ratio as the benches print it: the median, and each round in brackets. */
export const ratioText = (rounds: readonly number[]): string =>
  `${median(rounds).toFixed(2)}  (${rounds.map((ratio) => ratio.toFixed(2)).join(' ')})`;

/** Tells tools/bench.mjs of a figure, where that has started this bench. Gives the ratio as text. */
export function report(name: string, rounds: readonly number[], better: Figure['better'] = 'higher'): string {
  const figure: Figure = { name, rounds, better };
  process.send?.({ figure });
  return ratioText(rounds);
}
