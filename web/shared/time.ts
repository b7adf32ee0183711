/** Seconds from `now` to a time, 0 where it has passed. @param now in milliseconds since 1970. */
export const secondsUntil = (time: string | null, now: number): number =>
  time === null ? 0 : Math.max(0, Math.ceil((Date.parse(time) - now) / 1000));

/** Writes a number of seconds as a countdown, such as `45 s`, `4 min 5 s` or `2 h 10 min`. */
export function countdown(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const full = new Intl.DateTimeFormat('en-AU', { dateStyle: 'medium', timeStyle: 'medium' });

/** Writes a time in the reader's time zone. */
export const shownTime = (time: string): string => full.format(new Date(time));

/** Milliseconds between the checks that an open page makes by itself: the first soon, the later ones less often. */
const pauses = [15_000, 30_000, 60_000, 120_000, 300_000];

/**
 * Gives when an open page looks again by itself, in milliseconds since 1970: not before the DNS can show a change
 * (`retryAt`), and with growing pauses.
 *
 * @param checked how often the page has looked, and when it did last; `at` is when it was opened where it has not yet.
 */
export function nextOwnCheck(checked: { readonly times: number; readonly at: number }, retryAt: string | null): number {
  const pause = checked.times === 0 ? 0 : pauses[Math.min(checked.times, pauses.length) - 1]!;
  return Math.max(checked.at + pause, retryAt === null ? 0 : Date.parse(retryAt));
}

/** Gives the value of an input of the type `datetime-local` as a time of RFC 3339, null where it is empty or none. */
export function localToTime(value: string): string | null {
  const date = new Date(value);
  return value === '' || Number.isNaN(date.getTime()) ? null : date.toISOString();
}
