import { connect } from 'node:http2';
import { sesShards, shardSettings } from '@app/runtime';
import { request } from 'undici';
import { check, failed, ok, skipped, warning, type Finding } from '../check';
import { withDatabase } from '../with-database';

/** What another clock said, between two moments of ours; all in milliseconds since the epoch. */
interface Reading {
  readonly of: string;
  readonly at: number;
  readonly from: number;
  readonly until: number;
  /** How much later than `at` it may have been. */
  readonly precisionMs: number;
}

/** Milliseconds by which a clock may be off: below the shortest lease. */
const bearableMs = 2_000;
/** Milliseconds from which signatures, tokens and records are refused, or soon will be: AWS takes five minutes. */
const gravestMs = 60_000;
/** Milliseconds that another clock has to answer. */
const answerMs = 4_000;

/** Compares the clock of this machine with those of the database, of SES and of the resolvers. */
export const clock = check({
  name: 'clock',
  needs: ['DATABASE_URL', 'DATABASE_DIRECT_URL', 'DOH_RESOLVERS', ...shardSettings],
  withinMs: 6_000,
  remedy: 'Compare the clock of this machine with others by hand.',
  run: async ({ settings, now }) => {
    const { DATABASE_URL, DATABASE_DIRECT_URL, DOH_RESOLVERS } = settings;
    const hosts = [...new Set(sesShards(settings).map(({ endpoint, region }) => endpoint ?? sesHost(region)))];
    const clocks: [string, () => Promise<{ at: number; precisionMs: number }>][] = [
      ['the database', () => databaseTime(DATABASE_DIRECT_URL ?? DATABASE_URL)],
      ...hosts.map((url): (typeof clocks)[number] => [`SES at ${new URL(url).host}`, () => httpTime(url)]),
      ...[...new Set(DOH_RESOLVERS.map((url) => new URL(url).origin))].map((url): (typeof clocks)[number] => [
        `the resolver ${new URL(url).host}`,
        () => http2Time(url),
      ]),
    ];
    const readings = await Promise.all(
      clocks.map(async ([of, read]): Promise<Reading | string> => {
        const from = now();
        try {
          const { at, precisionMs } = await read();
          return Number.isNaN(at) ? of : { of, from, at, precisionMs, until: now() };
        } catch {
          return of;
        }
      }),
    );
    return readings.map((reading) =>
      typeof reading === 'string' ? skipped('It has not told its time.', reading) : judge(reading),
    );
  },
});

const sesHost = (region: string): string =>
  `https://email.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}/`;

/** Judges by the least difference that explains the reading, since an answer takes time. */
export function judge({ of, at, from, until, precisionMs }: Reading): Finding {
  const ahead = Math.max(0, from - (at + precisionMs));
  const behind = Math.max(0, at - until);
  const off = Math.max(ahead, behind);
  if (off <= bearableMs) return ok('The clock of this machine agrees with it.', of);
  const message =
    `The clock of this machine is ${(off / 1_000).toFixed(1)} s ${ahead > 0 ? 'ahead of' : 'behind'} it. Have NTP set ` +
    'whichever is wrong (chrony, systemd-timesyncd): the other lines tell which';
  return off > gravestMs
    ? failed(`${message}. With such a difference AWS refuses signatures, and Kafka may refuse events.`, of)
    : warning(`${message}.`, of);
}

const databaseTime = (url: string): Promise<{ at: number; precisionMs: number }> =>
  withDatabase(url, async (pool) => {
    const { rows } = await pool.query<{ at: number }>(
      'SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS at',
    );
    return { at: rows[0]!.at, precisionMs: 0 };
  });

async function httpTime(url: string): Promise<{ at: number; precisionMs: number }> {
  const { headers, body } = await request(url, { method: 'HEAD', signal: AbortSignal.timeout(answerMs) });
  await body.dump();
  return dateOf(headers.date);
}

async function http2Time(url: string): Promise<{ at: number; precisionMs: number }> {
  const session = connect(url);
  try {
    return await new Promise((resolve, reject) => {
      const refuse = () => reject(new Error('no answer'));
      setTimeout(refuse, answerMs).unref();
      session.on('error', refuse);
      const stream = session.request({ ':path': '/' });
      stream.on('error', refuse).on('response', ({ date }) => resolve(dateOf(date)));
    });
  } finally {
    session.destroy();
  }
}

/** Reads the field `Date` of an answer (RFC 9110 section 6.6.1), which has whole seconds. */
const dateOf = (value: unknown): { at: number; precisionMs: number } => ({
  at: typeof value === 'string' ? Date.parse(value) : NaN,
  precisionMs: 1_000,
});
