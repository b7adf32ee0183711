/**
 * Gives how many times a test repeats what it repeats: `usual` in most runs, and `whole`, which is what was asked to be
 * shown, with `WHOLE=1`. The usual number is one at which the test still fails when the code is broken.
 */
export const sample = (usual: number, whole: number): number => (process.env.WHOLE ? whole : usual);
