import { Logger } from '@nestjs/common';
import type { Answer } from '@app/mail-records';
import { Canary } from './canary';

type Kind = 'records' | 'nodata' | 'nxdomain' | 'servfail' | 'unreachable';

const answer = (kind: Kind): Promise<Answer<string>> =>
  Promise.resolve(
    kind === 'records'
      ? { kind, records: ['here'], aliases: [] }
      : kind === 'servfail'
        ? { kind }
        : kind === 'unreachable'
          ? { kind, reason: 'time-out' }
          : { kind, aliases: [] },
  );

/** Looks at the canary repeatedly. Each pair is what the two resolvers answer in one look. */
async function looks(...said: [Kind, Kind][]): Promise<boolean[]> {
  const now: { said: [Kind, Kind] } = { said: ['unreachable', 'unreachable'] };
  const resolver = (which: 0 | 1) => ({ txt: () => answer(now.said[which]) });
  const canary = new Canary([resolver(0), resolver(1)], 'canary.example');
  const found: boolean[] = [];
  for (now.said of said) found.push(await canary.isFound());
  return found;
}

beforeAll(() => void Logger.overrideLogger(false));

it.each<[string, [Kind, Kind][], boolean[]]>([
  [
    'either resolver finds it',
    [
      ['records', 'unreachable'],
      ['servfail', 'records'],
    ],
    [true, true],
  ],
  [
    'nobody answers, ever',
    [
      ['unreachable', 'unreachable'],
      ['servfail', 'unreachable'],
    ],
    [false, false],
  ],
  [
    'it was there, and is denied now',
    [
      ['records', 'records'],
      ['nxdomain', 'nxdomain'],
      ['records', 'nodata'],
    ],
    [true, false, true],
  ],
  [
    'it was never there, but resolvers answer',
    [
      ['nxdomain', 'nxdomain'],
      ['nodata', 'unreachable'],
    ],
    [true, true],
  ],
  [
    'it was never there, and nobody answers any more',
    [
      ['nxdomain', 'nxdomain'],
      ['unreachable', 'servfail'],
    ],
    [true, false],
  ],
  [
    'it is published at last, and lost',
    [
      ['nxdomain', 'nxdomain'],
      ['records', 'records'],
      ['nxdomain', 'nxdomain'],
    ],
    [true, true, false],
  ],
])('%s', async (_, said, found) => expect(await looks(...said)).toEqual(found));
