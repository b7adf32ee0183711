/**
 * Gives how many times a test repeats what it repeats: `usual` in most runs, and `whole`, which is what was asked to be
 * shown, with `WHOLE=1`. The usual number is one at which the test still fails when the code is broken.
 */
export const sample = (usual: number, whole: number): number => (process.env.WHOLE ? whole : usual);

/**
 * The number by which a suite takes a part of its cases in a usual run: `SEED`, or else `VARIANT`, which `make test`
 * takes by chance, prints, and keeps where it runs a suite again; by chance where a suite is run alone.
 */
export const seedOfRun = Number(process.env.SEED ?? process.env.VARIANT ?? Date.now() % 100_000);

/**
 * Gives the variants of a suite that a run takes, such as the transports: all of them with `WHOLE=1`, and otherwise
 * one, by the number `VARIANT`.
 *
 * @param place the binary digit of the number that decides, so that one choice says nothing of the other: 0 for the
 * transports, 1 for the clients of Kafka.
 */
export const variantsOfRun = <T>(variants: readonly T[], place: 0 | 1 = 0): readonly T[] =>
  process.env.WHOLE ? variants : [variants[(Number(process.env.VARIANT ?? 0) >> place) % variants.length]!];

/**
 * Tells whether this run takes the n-th of a whole, of which usual runs take one in `share`. Which one differs from run
 * to run, so that `share` runs of seeds that follow each other take all; so does one with `WHOLE=1`.
 */
export const isInRun = (n: number, share: number, seed = seedOfRun): boolean =>
  Boolean(process.env.WHOLE) || (n + seed) % share === 0;

/** Names the part that a suite takes, so that its run can be repeated. */
export const tellPart = (share: number): void =>
  console.info(`One in ${share}, SEED=${seedOfRun}${process.env.WHOLE ? '; WHOLE takes all' : ''}`);
