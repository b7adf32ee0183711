import fc from 'fast-check';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isInRun, sample, tellPart, seedOfRun } from './sample';

/** Octets of the longest message of the DNS (RFC 1035 section 4.2.2), and so of all TXT records of a name. */
export const longest = 65_535;
const lengthsTo = (most: number): number[] => [most / 16, most / 4, most].map(Math.floor);

/** Milliseconds of CPU below which a call says nothing about growth: garbage collection takes as long. */
const floorMs = 5;
/** The most by which the time may grow with four times the length: 4 where it is linear, 16 where it is quadratic. */
const growth = 10;
/** The same with twice the length: 2 where it is linear, 4 where it is quadratic. */
const doubleGrowth = 2.8;
/** Milliseconds of CPU that 64 KiB may take where a zone is judged, explained, or planned. */
export const allowedMs = 50;

/** Something that reads outside text. */
export interface Reading {
  /** The length of what it is given to read, as often as it is given. */
  readonly octets: number;
  /** A promise is awaited: its time counts as well. */
  readonly run: () => unknown;
  /** Milliseconds of CPU that 64 KiB of it may take; four times `allowedMs` where absent. */
  readonly allowedMs?: number;
}

/** How often a call that seems slow is run once more. */
const repetitions = 8;

/**
 * Gives the CPU time of this thread alone in milliseconds, since V8 compiles and collects in others.
 *
 * Linux brings the time of a thread up to date at each tick, which is every 4 ms, and when that of the process is asked
 * for.
 */
function threadMs(): number {
  process.cpuUsage();
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

/** Measures the CPU time of one call in milliseconds. */
export async function cpuOf(run: () => unknown): Promise<number> {
  const before = threadMs();
  await run();
  return threadMs() - before;
}

/** Work of the kind that readers do, on 64 KiB. */
const yardstick = {
  text: 'v=DMARC1; p=none; rua=mailto:ada@acme.com; '.repeat(longest / 43),
  run() {
    const tags = this.text.split(';').map((tag) => tag.trim().toLowerCase());
    const values = new Map(tags.map((tag, i) => [`${tag}${i}`, /^([a-z]+) *= *(.*)$/.exec(tag)?.[2]]));
    return (JSON.parse(JSON.stringify([...values])) as unknown[]).length;
  },
  /** Milliseconds of CPU that it takes on the machine for which `allowedMs` was set. */
  usualMs: 2.5,
};

/** Measures how many times slower than usual this machine is now; 1 where it is not slower. */
export async function slowdown(): Promise<number> {
  let least = Infinity;
  for (let i = 0; i < repetitions; i++) least = Math.min(least, await cpuOf(() => yardstick.run()));
  return Math.max(1, least / yardstick.usualMs);
}

/**
 * Tells what is wrong with the CPU time of a reader: that it grows faster than the length of what is read, or is too
 * long for it. It does not wait for the full length where a shorter one shows it.
 *
 * @param readingOf makes the reading of a length; what it does before it returns is not measured.
 * @param most the greatest length in octets.
 */
export async function slownessOf(readingOf: (length: number) => Reading, most = longest): Promise<string | undefined> {
  let shorter: Reading | undefined;
  for (const length of lengthsTo(most)) {
    const reading = readingOf(length);
    const ms = await cpuOf(reading.run);
    // A first call is slow, so that of the shorter text is made once more.
    if (ms >= floorMs && (grows(ms, shorter && (await cpuOf(shorter.run))) || ms > mostMs(reading))) {
      const told = await slownessAgain(reading, shorter, () => readingOf(Math.floor(length / 2)));
      if (told) return told;
    }
    shorter = reading;
  }
  return undefined;
}

/** Tells whether a reading takes more CPU than its length allows. */
export const excessOf = async (reading: Reading): Promise<string | undefined> =>
  (await cpuOf(reading.run)) > mostMs(reading) ? slownessAgain(reading) : undefined;

const grows = (ms: number, shorterMs = Infinity): boolean => ms > growth * shorterMs;
const mostMs = ({ octets, allowedMs: most = 4 * allowedMs }: Reading): number =>
  Math.max(floorMs, (most * octets) / longest);

/**
 * Measures a call that seems slow some times more, and takes the least: a collection of garbage may fall into any, and
 * another process may have the other half of the core. Where memory gets short, the time grows at once; where it is not
 * linear, it grows from each length to the next.
 */
async function slownessAgain(reading: Reading, shorter?: Reading, halfOf?: () => Reading): Promise<string | undefined> {
  const half = halfOf?.();
  let [ms, halfMs, shorterMs] = [Infinity, Infinity, Infinity];
  const { octets } = reading;
  const told = (times: number): string | undefined => {
    if (ms < floorMs * times) return undefined;
    if (grows(ms, shorterMs) && ms > doubleGrowth * halfMs && halfMs > doubleGrowth * shorterMs)
      return `${octets} octets take ${ms} ms, half of them ${halfMs} ms, and a quarter ${shorterMs} ms`;
    const most = mostMs(reading) * times;
    return ms > most ? `${octets} octets take ${ms} ms, which may be ${most}` : undefined;
  };
  // What takes seconds does not get quick by chance.
  for (let i = 0; i < (ms > 1_000 ? 2 : repetitions); i++) {
    if (shorter) shorterMs = Math.min(shorterMs, await cpuOf(shorter.run));
    if (half) halfMs = Math.min(halfMs, await cpuOf(half.run));
    ms = Math.min(ms, await cpuOf(reading.run));
    if (i > 0 && !told(1)) return undefined;
  }
  return told(await slowdown());
}

/** What records, names, addresses, keys and headers are made of, and what may stand between, before and behind it. */
const words =
  'v=DMARC1 v=dmarc1 v=spf1 sendmux-verify= v=STSv1 p= sp=none np= pct=1 t=y rua= rua=mailto:a@b.c mailto: none quarantine include: redirect= exists: exp= ip4: ip6: a mx all ~all ptr amazonses.com sendmux.ai mail. %{i} %{d2r.} %% /24 //64 :: 0 1.2.3.4 smx_ smx_live_ # xn-- team_abc123';
const marks = ' \t\n\v\r\xa0\x00\x7f\xff;:,.=%"\'\\-_~?+@<>&!';
const escapes = ['v=spf1 ', '\r\n', '\xc2\xa0', '\xe2\x80\x93', '\xef\xbb\xbf', '\\;', '\\059', '\\"'];
const fragments = words.split(' ').concat(Array.from(marks), escapes);

/** A text of any length: something that is repeated, with something before and behind it. */
export interface Hostile {
  readonly before: string;
  readonly repeated: string;
  readonly behind: string;
}

const some = (minLength: number, maxLength: number) =>
  fc.array(fc.constantFrom(...fragments), { minLength, maxLength }).map((parts) => parts.join(''));

const hostile: fc.Arbitrary<Hostile> = fc.record({
  before: some(0, 3),
  repeated: some(1, 3),
  behind: some(0, 2),
});

/** Makes what is made of a text and a length once: all readers in turn are given the same. */
export function keptFor<Made>(make: (text: Hostile, length: number) => Made): (text: Hostile, length: number) => Made {
  let kept: { readonly text: Hostile; readonly made: Map<number, Made> } | undefined;
  return (text, length) => {
    if (kept?.text !== text) kept = { text, made: new Map() };
    const made = kept.made.get(length) ?? make(text, length);
    kept.made.set(length, made);
    return made;
  };
}

/**
 * Gives the text with at most a length in octets, one a character. Each `#` is a number of its own. No part is cut,
 * since what is cut may mean something else.
 */
export const textOf = keptFor(({ before, repeated, behind }, length): string => {
  const parts = [before];
  for (let octets = before.length + behind.length; ;) {
    const part = repeated.replaceAll('#', String(parts.length));
    octets += part.length;
    if (octets > length) break;
    parts.push(part);
  }
  return parts.join('') + behind;
});

/** Octets of an RR beside its data: a pointer to its name, type, class, TTL, and the lengths of data and string. */
const rrOctets = 13;

/** Gives the octets that these TXT records take in an answer. */
export const octetsOf = (records: readonly string[]): number =>
  records.reduce((octets, { length }) => octets + rrOctets + length, 0);

/** Gives as many short texts as records of such a length in octets can hold, each another one. */
export const textsOf = keptFor(({ before, repeated, behind }, length): string[] => {
  const texts: string[] = [];
  for (let octets = 0; octets < length;) {
    const text = `${before}${repeated.replaceAll('#', String(texts.length))}${behind}`;
    texts.push(texts.length % 2 === 0 ? text : `${text}${texts.length}`);
    octets += rrOctets + text.length;
  }
  return texts;
});

/** Gives the names of all functions that the files of a folder export, but for classes. */
export function functionsIn(folder: string, isMeant: (file: string) => boolean = () => true): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.endsWith('.ts') && !file.endsWith('.spec.ts') && isMeant(file),
  );
  const all = files.flatMap((file) => Object.entries(jest.requireActual<Record<string, unknown>>(join(folder, file))));
  const isFunction = (value: unknown) => typeof value === 'function' && !/^class\b/.test(String(value));
  return [...new Set(all.filter(([, value]) => isFunction(value)).map(([name]) => name))].sort();
}

/** Makes the reading of a hostile text of a length. */
export type Reader = (text: Hostile, length: number) => Reading;

export const ofText =
  (read: (text: string) => unknown): Reader =>
  (hostile, length) => {
    const text = textOf(hostile, length);
    return { octets: text.length, run: () => read(text) };
  };

/** A name of the DNS, or a part of one, has 253 octets at most. */
export const ofName =
  (read: (name: string) => unknown): Reader =>
  (hostile, length) => {
    const name = textOf(hostile, Math.ceil((length / longest) * 253));
    return { octets: name.length, run: () => read(name) };
  };

/** Gives what is read of a text, or why it is refused. */
export async function outcomeOf(read: () => unknown): Promise<unknown> {
  try {
    return await read();
  } catch (error) {
    return (error as Error).message;
  }
}

/** Inputs that were slow once, or nearly. */
const known: Hostile[] = [
  { before: 'v=DMARC1', repeated: ' ', behind: '!' },
  { before: 'v=DMARC1 p=x', repeated: ' ', behind: '!' },
  { before: 'v=DMARC1; p=none', repeated: ' ', behind: 'b' },
  { before: 'v=DMARC1; p=none;', repeated: 'rua=mailto:#@x.net;', behind: '' },
  { before: 'v=DMARC1; p=none;', repeated: 'a#=b;', behind: '' },
  { before: 'v=DMARC1; p=none;', repeated: 'sp=x;', behind: '' },
  { before: 'a', repeated: '" ', behind: 'b' },
  { before: 'v=spf1 mx', repeated: ' ', behind: 'x' },
  { before: 'v=spf1 ', repeated: 'exists:a.b ', behind: '' },
  { before: 'v=spf1 ', repeated: 'include:a#.net ', behind: '-all' },
  { before: 'v=spf1 include:', repeated: 'a.', behind: '!' },
  { before: 'v=spf1 include:', repeated: '1', behind: '.' },
  { before: 'v=spf1 ', repeated: 'x', behind: ':' },
  { before: 'v=spf1 ip6:', repeated: ':', behind: '' },
  { before: '', repeated: 'a', behind: '' },
  { before: '', repeated: '\x00', behind: 'a' },
  { before: '', repeated: ':', behind: '!' },
  { before: 'smx_', repeated: 'a', behind: '' },
  { before: '', repeated: 'W/"#", ', behind: '' },
  { before: '[', repeated: '{"a":[', behind: '' },
];

/** Gives the readers that are slow with a text, each with how slow. */
export async function slowIn(
  readers: Readonly<Record<string, Reader>>,
  text: Hostile,
  most: number,
): Promise<string[]> {
  const slow: string[] = [];
  for (const [name, reader] of Object.entries(readers)) {
    const told = await slownessOf((length) => reader(text, length), most);
    if (told !== undefined) slow.push(`${name}: ${told}`);
  }
  return slow;
}

/**
 * Gives the readers that a run gives the n-th text: one in `share` of them, others for the next text. Those that stand
 * together are taken together, so that what several need is made for few texts.
 */
export function readersOf(
  readers: Readonly<Record<string, Reader>>,
  text: number,
  share: number,
  turn = seedOfRun,
): Record<string, Reader> {
  const all = Object.entries(readers);
  const part = (reader: number) => Math.floor((reader * share) / all.length);
  return Object.fromEntries(all.filter((_, reader) => isInRun(part(reader) + text, share, turn)));
}

/**
 * Makes tests that hold the time of each function to the length of what it reads, for texts that are made to be slow.
 *
 * @param readers by the names of the functions.
 * @param seed of the texts that are made.
 * @param numRuns how many are made, besides the known ones.
 * @param most the greatest length of a text in octets: what the DNS allows, in a run of the whole.
 * @param share a usual run gives each text to one in so many readers, and each reader one in so many texts.
 */
export function itIsLinear(
  readers: Readonly<Record<string, Reader>>,
  seed: number,
  numRuns: number,
  most = sample(longest / 4, longest),
  share = 1,
): void {
  if (share > 1) beforeAll(() => tellPart(share));
  it.each(known.map((text, i) => [JSON.stringify(Object.values(text)), text, i] as const))(
    'N1: %s',
    async (_shown, text, i) => expect(await slowIn(readersOf(readers, i, share), text, most)).toEqual([]),
  );
  it(`N1: whatever else it holds (${numRuns} texts of the seed ${seed})`, () => {
    let made = known.length;
    return fc.assert(
      fc.asyncProperty(hostile, async (text) =>
        expect(await slowIn(readersOf(readers, made++, share), text, most)).toEqual([]),
      ),
      { seed, numRuns, endOnFailure: true },
    );
  });
}
