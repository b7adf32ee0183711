/**
 * Gives how many times a test repeats what it repeats: `usual` in most runs, and `whole`, which is what was asked to be
 * shown, with `WHOLE=1`. The usual number is one at which the test still fails when the code is broken.
 */
export const sample = (usual: number, whole: number): number => (process.env.WHOLE ? whole : usual);

/**
 * Gives the variants of a suite that a run takes, such as the transports: all of them with `WHOLE=1`, and otherwise
 * one, by the number `VARIANT`. `make test` takes 0 or 1 by chance, and prints it; a suite that is run alone takes 0.
 */
export const variantsOfRun = <T>(variants: readonly T[]): readonly T[] =>
  process.env.WHOLE ? variants : [variants[Number(process.env.VARIANT ?? 0) % variants.length]!];

/** What decides which part of a whole this run takes. `SEED` in the environment repeats a run. */
export const turnOfRun = Number(process.env.SEED ?? Date.now() % 100_000);

/**
 * Tells whether this run takes the n-th of a whole, of which usual runs take one in `share`. Which one differs from run
 * to run, so that `share` runs of turns that follow each other take all; so does one with `WHOLE=1`.
 */
export const isInRun = (n: number, share: number, turn = turnOfRun): boolean =>
  Boolean(process.env.WHOLE) || (n + turn) % share === 0;

/** Names the part that a suite takes, so that its run can be repeated. */
export const tellTurn = (share: number): void =>
  console.info(`One in ${share}, SEED=${turnOfRun}${process.env.WHOLE ? '; WHOLE takes all' : ''}`);
