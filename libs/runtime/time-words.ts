import { parseDuration } from './duration';

/** Describes the forms that `parseTime` accepts, for error messages. */
export const timeForms =
  'a date (2026-03-01), a date and time (2026-03-01T10:00:00+10:00; UTC where no offset is given), now, today, yesterday, tomorrow, or how long ago (-6h, -30m, -2d, -1w, 6h ago)';

const dayMs = 86_400_000;
/** ISO 8601 in the extended form of RFC 3339; seconds and the offset may be left out. */
const isoForm =
  /^(\d{4}-\d\d-\d\d)(?:[T ]((?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?)(Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?$/i;

/**
 * Parses a time that somebody has typed. A date alone is its first moment, and so are `today`, `yesterday` and
 * `tomorrow`, all in UTC. Digits below the millisecond are cut off.
 *
 * @returns undefined when it is not a time, such as 30 February.
 */
export function parseTime(text: string, now: Date): Date | undefined {
  const typed = text.trim().toLowerCase();
  const midnight = Math.floor(now.getTime() / dayMs) * dayMs;
  const words: Record<string, number> = {
    now: now.getTime(),
    today: midnight,
    yesterday: midnight - dayMs,
    tomorrow: midnight + dayMs,
  };
  if (Object.hasOwn(words, typed)) return new Date(words[typed]!);
  const ago = /^(?:-(\S+)|(\S+) ago)$/.exec(typed);
  const time = ago ? now.getTime() - (parseDuration(ago[1] ?? ago[2]!) ?? NaN) : isoTime(typed);
  return Number.isNaN(new Date(time).getTime()) ? undefined : new Date(time);
}

/** Parses a time into milliseconds since the Unix epoch; NaN when the text is no time. */
function isoTime(text: string): number {
  const [, date, clock = '00:00', offset = 'Z'] = isoForm.exec(text) ?? [];
  // `Date` turns 30 February into 2 March.
  const isDate = date !== undefined && new Date(`${date}T00:00Z`).getUTCDate() === Number(date.slice(-2));
  return isDate ? Date.parse(`${date}T${clock}${offset.toUpperCase().replace(/^(.\d\d)(\d\d)$/, '$1:$2')}`) : NaN;
}
