import { setTimeout as sleep } from 'node:timers/promises';
import type { RecordedEvent } from '@app/event-store';
import * as fc from 'fast-check';
import { OrderedDispatch, type OrderedDispatchOptions } from './ordered-dispatch';

const event = (position: number, stream: string, version = position): RecordedEvent => ({
  position,
  stream,
  version,
  type: 'Happened',
  schemaVersion: 1,
  data: {},
  time: '2026-11-01T00:00:00.000Z',
  metadata: { actor: 'test', correlationId: 'c' },
});

type Options = OrderedDispatchOptions<RecordedEvent>;

function dispatcher(options: Partial<Options> & Pick<Options, 'handle'>) {
  return new OrderedDispatch<RecordedEvent>({
    after: 0,
    concurrency: 16,
    backlog: 1_000,
    attempts: 3,
    backOff: { baseMs: 1, capMs: 2 },
    failed: () => undefined,
    park: () => Promise.resolve(),
    broken: (error) => {
      throw error;
    },
    ...options,
  });
}

async function push(dispatch: OrderedDispatch<RecordedEvent>, given: RecordedEvent): Promise<void> {
  dispatch.push(given);
  await dispatch.room();
}

/** Makes a handler whose calls end when the test ends them. */
function held() {
  const ends = new Map<number, () => void>();
  const handle = ({ position }: RecordedEvent) => new Promise<void>((resolve) => ends.set(position, resolve));
  const finish = async (position: number) => {
    ends.get(position)!();
    await sleep(0);
  };
  return { handle, finish, started: () => [...ends.keys()] };
}

it('has the position before the first event that is not done', async () => {
  const { handle, finish } = held();
  const dispatch = dispatcher({ after: 10, handle });
  expect(dispatch.position).toBe(10);
  await push(dispatch, event(12, 'a'));
  await push(dispatch, event(15, 'b'));
  dispatch.skip(19);
  expect(dispatch).toMatchObject({ position: 11, seen: 19 });
  await finish(15);
  expect(dispatch.position).toBe(11);
  await finish(12);
  expect(dispatch.position).toBe(19);
});

it('starts the next event of a stream when the one before has ended, and others meanwhile', async () => {
  const { handle, finish, started } = held();
  const dispatch = dispatcher({ handle });
  for (const [index, stream] of ['a', 'a', 'b'].entries()) await push(dispatch, event(index + 1, stream));
  expect(started()).toEqual([1, 3]);
  await finish(1);
  expect(started()).toEqual([1, 3, 2]);
});

it('handles no more streams at once than its concurrency', async () => {
  const { handle, finish, started } = held();
  const dispatch = dispatcher({ handle, concurrency: 2 });
  for (const [index, stream] of ['a', 'b', 'c'].entries()) await push(dispatch, event(index + 1, stream));
  expect(started()).toEqual([1, 2]);
  await finish(2);
  expect(started()).toEqual([1, 2, 3]);
});

it('makes the reader wait when the backlog is full', async () => {
  const { handle, finish } = held();
  const dispatch = dispatcher({ handle, backlog: 2 });
  let taken = 0;
  const pushes = (async () => {
    for (const position of [1, 2, 3]) {
      await push(dispatch, event(position, `s${position}`));
      taken = position;
    }
  })();
  await sleep(0);
  expect(taken).toBe(1);
  await finish(1);
  expect(taken).toBe(2);
  await finish(2);
  await finish(3);
  await pushes;
  expect(taken).toBe(3);
});

it('waits for a retry without counting towards the concurrency', async () => {
  const seen: string[] = [];
  const dispatch = dispatcher({
    concurrency: 1,
    backOff: { baseMs: 40, capMs: 40 },
    handle: ({ stream }) => {
      seen.push(stream);
      return seen.length === 1 ? Promise.reject(new Error('once')) : Promise.resolve();
    },
  });
  await push(dispatch, event(1, 'a'));
  await push(dispatch, event(2, 'b'));
  await sleep(10);
  expect(seen).toEqual(['a', 'b']);
  expect(dispatch.position).toBe(0);
  await sleep(60);
  expect(seen).toEqual(['a', 'b', 'a']);
  expect(dispatch.position).toBe(2);
});

it('stays undone where an event can be neither handled nor parked', async () => {
  const broken: unknown[] = [];
  const handled: number[] = [];
  const dispatch = dispatcher({
    handle: ({ position }) => (handled.push(position), Promise.reject(new Error('bad'))),
    park: () => Promise.reject(new Error('no table')),
    broken: (error) => broken.push(error),
  });
  await push(dispatch, event(1, 'a'));
  await push(dispatch, event(2, 'a'));
  await sleep(30);
  expect(broken).toEqual([new Error('no table')]);
  expect(handled).toEqual([1, 1, 1]);
  expect(dispatch.position).toBe(0);
});

it('starts nothing after a stop, which waits for what runs', async () => {
  const { handle, finish, started } = held();
  const dispatch = dispatcher({ handle, concurrency: 1 });
  await push(dispatch, event(1, 'a'));
  await push(dispatch, event(2, 'b'));
  let stopped = false;
  const stop = dispatch.stop().then(() => (stopped = true));
  await sleep(5);
  expect(stopped).toBe(false);
  await finish(1);
  await stop;
  expect(started()).toEqual([1]);
  expect(dispatch.position).toBe(1);
});

it('keeps the order of every stream and loses nothing, whatever fails', async () => {
  const plan = fc.array(
    fc.record({ stream: fc.constantFrom('a', 'b', 'c', 'd'), failures: fc.constantFrom(0, 0, 0, 1, 2, 3) }),
    { minLength: 1, maxLength: 40 },
  );
  await fc.assert(
    fc.asyncProperty(plan, fc.integer({ min: 1, max: 5 }), async (events, concurrency) => {
      const tries = new Map<number, number>();
      const done: RecordedEvent[] = [];
      const active = new Set<string>();
      const dispatch = dispatcher({
        concurrency,
        backOff: { baseMs: 0, capMs: 0 },
        handle: async (given) => {
          expect(active.has(given.stream)).toBe(false);
          active.add(given.stream);
          expect(active.size).toBeLessThanOrEqual(concurrency);
          await Promise.resolve();
          active.delete(given.stream);
          const attempt = (tries.get(given.position) ?? 0) + 1;
          tries.set(given.position, attempt);
          if (attempt <= events[given.position - 1]!.failures) throw new Error('planned');
          done.push(given);
        },
        park: (given) => Promise.resolve(void done.push(given)),
      });
      for (const [index, { stream }] of events.entries()) await push(dispatch, event(index + 1, stream));
      while (dispatch.position < events.length) await sleep(1);
      for (const stream of ['a', 'b', 'c', 'd']) {
        const positions = done.filter((each) => each.stream === stream).map((each) => each.position);
        expect(positions).toEqual([...positions].sort((a, b) => a - b));
      }
      expect(done).toHaveLength(events.length);
    }),
    { numRuns: 60 },
  );
});

it.each([
  ['away', '53300'],
  ['busy', '57014'],
])('parks no event while the database is %s, however long', async (_, code) => {
  let calls = 0;
  const parked: RecordedEvent[] = [];
  const dispatch = dispatcher({
    attempts: 2,
    park: (event) => Promise.resolve(void parked.push(event)),
    handle: () => {
      if (++calls < 12) return Promise.reject(Object.assign(new Error('no'), { code }));
      return Promise.resolve();
    },
  });
  await push(dispatch, event(1, 'a'));
  for (let i = 0; i < 200 && dispatch.position < 1; i++) await sleep(5);
  expect({ calls, position: dispatch.position, parked }).toEqual({ calls: 12, position: 1, parked: [] });
});
