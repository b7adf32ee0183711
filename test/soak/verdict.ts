/** Says of a series of measurements whether it is flat or grows. Pure. */

/** A measurement. */
export interface Point {
  /** Seconds since the beginning of the run; of a cost, how much had been added by then. */
  readonly at: number;
  readonly value: number;
}

/** What is measured of one life of a process; a restart begins another one, and with it a new level. */
export type Life = readonly Point[];

/** How much a series may grow. */
export interface Allowance {
  /** The amount, in the unit of the series, below which nothing counts as growth. */
  readonly least: number;
  /** The part of its level that a series may grow by. */
  readonly share: number;
}

export interface Verdict {
  readonly is: 'flat' | 'grows' | 'too short';
  /** The median. */
  readonly level: number;
  /** How much it grew while it was looked at, by the slope; of a cost, how much more it costs at the end. */
  readonly growth: number;
  /** How much it may grow: what the allowance says, or what its noise could be. */
  readonly allowed: number;
}

/** Measurements of a life that say something about its slope, at least. */
const fewestPoints = 8;
/**
 * The part of the longest life by which two points have to be apart. What goes up and down within less than that, as
 * memory between two collections does, has no slope.
 */
const apart = 1 / 3;
/** The noise, as a multiple of the median distance from the line, that growth has to stand out of. */
const noises = 3;
/** The part of what is allowed by which the second half alone has to grow: what has warmed up does not. */
const partOfLaterHalf = 1 / 3;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const spanOf = (life: Life): number => (life.length < 2 ? 0 : life.at(-1)!.at - life[0]!.at);

/**
 * Gives the slope of several lives by Theil and Sen: the median of the slopes between all pairs of points of a life. No
 * single measurement changes it, however wrong it is, nor does the step from one life to the next. Undefined where no
 * two points are far enough apart.
 */
function slopeOf(lives: readonly Life[]): number | undefined {
  const distance = apart * Math.max(...lives.map(spanOf));
  const slopes: number[] = [];
  for (const life of lives)
    for (const [i, later] of life.entries())
      for (let j = 0; j < i; j++) {
        const run = later.at - life[j]!.at;
        if (run > 0 && run >= distance) slopes.push((later.value - life[j]!.value) / run);
      }
  return slopes.length === 0 ? undefined : median(slopes);
}

/** Gives the median distance of the points from the line with the slope that goes through the middle of their life. */
function noiseOf(lives: readonly Life[], slope: number): number {
  const distances = lives.flatMap((life) => {
    const rests = life.map(({ at, value }) => value - slope * at);
    const middle = median(rests);
    return rests.map((rest) => Math.abs(rest - middle));
  });
  return median(distances);
}

const laterHalf = (life: Life): Life => {
  const from = (life[0]!.at + life.at(-1)!.at) / 2;
  return life.filter(({ at }) => at >= from);
};

/**
 * Judges a series that should stay where it is. It grows if it does so over the whole of its lives and over the later
 * halves of them too.
 *
 * @param warmUp seconds at the beginning of each life that do not count.
 * @param shortest seconds that the longest life has to last after that.
 */
export function verdictOf(lives: readonly Life[], { least, share }: Allowance, warmUp: number, shortest = 60): Verdict {
  const warm = lives
    .map((life) => life.filter(({ at }) => at >= life[0]!.at + warmUp))
    .filter((life) => life.length >= fewestPoints);
  const values = (warm.length > 0 ? warm : lives).flatMap((life) => life.map(({ value }) => value));
  const level = values.length > 0 ? median(values) : 0;
  const span = Math.max(0, ...warm.map(spanOf));
  const slope = span >= shortest ? slopeOf(warm) : undefined;
  if (slope === undefined) return { is: 'too short', level, growth: 0, allowed: Math.max(least, share * level) };
  const growth = slope * span;
  const allowed = Math.max(least, share * Math.abs(level), noises * noiseOf(warm, slope));
  const later = (slopeOf(warm.map(laterHalf).filter((life) => life.length > 1)) ?? slope) * span;
  const grows = growth > allowed && later > partOfLaterHalf * allowed;
  return { is: grows ? 'grows' : 'flat', level, growth, allowed };
}

/**
 * Judges a series that is meant to grow, as the log does, by what each addition costs: `at` is how much was added. The
 * level is the cost of one in the first half of what was added, and it grows if one costs more in the second half.
 */
export function costVerdictOf(life: Life, { least, share }: Allowance): Verdict {
  const added = spanOf(life);
  const middle = added / 2 + (life[0]?.at ?? 0);
  const halves = [life.filter(({ at }) => at <= middle), life.filter(({ at }) => at >= middle)];
  const [level, later] = halves.map((half) => (half.length < fewestPoints ? undefined : slopeOf([half])));
  if (level === undefined || later === undefined) return { is: 'too short', level: level ?? 0, growth: 0, allowed: 0 };
  const growth = later - level;
  // What one costs may vary by as much as makes the least growth of the whole half.
  const allowed = Math.max(share * Math.abs(level), least / (added / 2));
  return { is: growth > allowed ? 'grows' : 'flat', level, growth, allowed };
}
