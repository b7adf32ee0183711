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
