import { setImmediate as turn } from 'node:timers/promises';
import { ConcurrencyLimit } from './concurrency-limit';

/** Makes tasks that end when the test says so. */
function tasks() {
  const begun: string[] = [];
  const ends = new Map<string, (error?: Error) => void>();
  const task = (item: string) =>
    new Promise<void>((resolve, reject) => {
      begun.push(item);
      ends.set(item, (error) => (error ? reject(error) : resolve()));
    });
  const end = async (item: string, error?: Error) => {
    ends.get(item)!(error);
    await turn();
  };
  return { begun, task, end };
}

/** Makes pages, and counts how many were read. */
function book(...pages: string[][]) {
  const read = { count: 0 };
  async function* all() {
    for (const page of pages) {
      read.count += 1;
      yield await Promise.resolve(page);
    }
  }
  return { read, pages: all() };
}

it('continues past slow items, from page to page, and reads a page when it is needed', async () => {
  const { begun, task, end } = tasks();
  const { read, pages } = book(['slow', 'a'], ['b', 'c'], ['d']);
  let isDone = false;
  const done = new ConcurrencyLimit(2).forEach(pages, task).then(() => (isDone = true));
  await turn();
  expect(begun).toEqual(['slow', 'a']);
  expect(read.count).toBeLessThanOrEqual(2);
  for (const item of ['a', 'b', 'c', 'd']) await end(item);
  expect(begun).toEqual(['slow', 'a', 'b', 'c', 'd']);
  expect(isDone).toBe(false);
  await end('slow');
  await done;
});

it('shares its places evenly between its callers', async () => {
  const { begun, task, end } = tasks();
  const limit = new ConcurrencyLimit(2);
  const all = ['a', 'b'].map((who) => limit.forEach([[1, 2, 3].map((item) => who + item)], task));
  await turn();
  for (let i = 0; i < 6; i++) {
    expect(begun.length).toBe(Math.min(6, i + 2));
    await end(begun[i]!);
  }
  expect(
    begun
      .slice(1, 5)
      .map(([who]) => who)
      .sort(),
  ).toEqual(['a', 'a', 'b', 'b']);
  await Promise.all(all);
});

it('begins nothing after a failure, waits for the tasks under way, and frees their places', async () => {
  const { begun, task, end } = tasks();
  const limit = new ConcurrencyLimit(2);
  const { read, pages } = book(['bad', 'slow', 'never'], ['never either'], ['nor this']);
  let failure: unknown;
  const done = limit.forEach(pages, task).catch((error: Error) => (failure = error.message));
  await turn();
  await end('bad', new Error('broken'));
  expect(failure).toBeUndefined();
  await end('slow');
  await done;
  expect([failure, begun, read.count]).toEqual(['broken', ['bad', 'slow'], 1]);
  const next = limit.forEach([['x', 'y']], task);
  await turn();
  expect(begun.slice(2)).toEqual(['x', 'y']);
  await end('x');
  await end('y');
  await next;
});

it('waits for the tasks under way when no further page can be read', async () => {
  const { task, end } = tasks();
  async function* pages() {
    yield await Promise.resolve(['a']);
    throw new Error('no database');
  }
  let failure: unknown;
  const done = new ConcurrencyLimit(2).forEach(pages(), task).catch((error: Error) => (failure = error.message));
  await turn();
  expect(failure).toBeUndefined();
  await end('a');
  await done;
  expect(failure).toBe('no database');
});
