import type { RecordedEvent } from '@app/event-store';
import type { Decider } from './decider';
import { StreamStates } from './stream-states';

/** A model that adds numbers. */
const sum: Pick<
  Decider<never, { type: string; at: string; data: number }, number>,
  'initialState' | 'eventsOf' | 'evolve'
> = {
  initialState: 0,
  eventsOf: (recorded) =>
    Promise.resolve(recorded.map(({ type, time, data }) => ({ type, at: time, data: data as number }))),
  evolve: (state, { data }) => state + data,
};

let streams: Map<string, RecordedEvent[]>;
let read: number;
let states: StreamStates<never, { type: string; at: string; data: number }, number>;

beforeEach(() => {
  streams = new Map();
  read = 0;
  states = new StreamStates(
    {
      readStream: (stream, from = 1, limit = Infinity) => {
        const events = (streams.get(stream) ?? []).slice(from - 1).slice(0, limit);
        read += events.length;
        return Promise.resolve(events);
      },
    },
    sum,
  );
});

let positions = 0;
function append(stream: string, ...numbers: number[]): void {
  const events = streams.get(stream) ?? [];
  streams.set(stream, events);
  for (const data of numbers)
    events.push({
      position: (positions += 1),
      stream,
      version: events.length + 1,
      type: 'Added',
      schemaVersion: 1,
      data,
      time: '2026-04-15T10:00:00.000Z',
      metadata: { actor: 'test', correlationId: 'c' },
    });
}
const ones = (length: number) => Array.from({ length }, () => 1);
/** The number of events that one load reads. */
async function readBy(stream: string): Promise<number> {
  const before = read;
  await states.load(stream);
  return read - before;
}

it('N6: a stream of 10,000 events is loaded by reading no more than one of ten', async () => {
  append('short', ...ones(10));
  append('long', ...ones(10_000));
  for (const stream of ['short', 'long']) expect((await states.load(stream)).state).toBe(streams.get(stream)!.length);
  for (let i = 0; i < 5; i++) {
    append('long', 1);
    expect(await readBy('long')).toBeLessThanOrEqual(await readBy('short'));
  }
  expect(await states.load('long')).toMatchObject({ state: 10_005, version: 10_005, last: { version: 10_005 } });
});

it('gives what a fold of the whole stream gives, whoever has appended meanwhile', async () => {
  for (const each of [1, 48, 1, 1, 0, 999, 1, 1_000, 2_500]) {
    append('s', ...ones(each).map((_, i) => i % 7));
    const whole = streams.get('s')!;
    expect(await states.load('s')).toEqual({
      state: whole.reduce((total, { data }) => total + (data as number), 0),
      version: whole.length,
      last: whole.at(-1),
    });
  }
});

it('reads a stream anew that does not go on from what it knows, as after a restore', async () => {
  append('s', ...ones(100));
  await states.load('s');
  streams.delete('s');
  append('s', ...ones(60).map(() => 2));
  expect(await states.load('s')).toMatchObject({ state: 120, version: 60 });
  append('s', ...ones(60).map(() => 3));
  expect(await states.load('s')).toMatchObject({ state: 300, version: 120 });
});

it('remembers no more streams than it must', async () => {
  for (let i = 0; i <= 1_000; i++) {
    append(`s${i}`, ...ones(50));
    await states.load(`s${i}`);
  }
  expect(await readBy('s1000')).toBe(1);
  expect(await readBy('s0')).toBe(50);
});

it('knows no stream that does not exist', async () =>
  expect(await states.load('none')).toEqual({ state: 0, version: 0, last: undefined }));
