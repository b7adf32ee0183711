import { setImmediate as turn } from 'node:timers/promises';
import { Lanes } from './lanes';

/** Works that end when they are told to. */
function works() {
  const begun: string[] = [];
  const ends = new Map<string, (error?: Error) => void>();
  const work = (item: string) =>
    new Promise<void>((resolve, reject) => {
      begun.push(item);
      ends.set(item, (error) => (error ? reject(error) : resolve()));
    });
  const end = async (item: string, error?: Error) => {
    ends.get(item)!(error);
    await turn();
  };
  return { begun, work, end };
}

/** Pages, and how many were read. */
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

it('goes on past slow items, from page to page, and reads a page when it is needed', async () => {
  const { begun, work, end } = works();
  const { read, pages } = book(['slow', 'a'], ['b', 'c'], ['d']);
  let isDone = false;
  const done = new Lanes(2).each(pages, work).then(() => (isDone = true));
  await turn();
  expect(begun).toEqual(['slow', 'a']);
  expect(read.count).toBeLessThanOrEqual(2);
  for (const item of ['a', 'b', 'c', 'd']) await end(item);
  expect(begun).toEqual(['slow', 'a', 'b', 'c', 'd']);
  expect(isDone).toBe(false);
  await end('slow');
  await done;
});

it('shares its lanes evenly between those who bring works', async () => {
  const { begun, work, end } = works();
  const lanes = new Lanes(2);
  const all = ['a', 'b'].map((who) => lanes.each([[1, 2, 3].map((item) => who + item)], work));
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

it('begins nothing after a failure, waits for what is under way, and gives its lanes back', async () => {
  const { begun, work, end } = works();
  const lanes = new Lanes(2);
  const { read, pages } = book(['bad', 'slow', 'never'], ['never either'], ['nor this']);
  let failure: unknown;
  const done = lanes.each(pages, work).catch((error: Error) => (failure = error.message));
  await turn();
  await end('bad', new Error('broken'));
  expect(failure).toBeUndefined();
  await end('slow');
  await done;
  expect([failure, begun, read.count]).toEqual(['broken', ['bad', 'slow'], 1]);
  const next = lanes.each([['x', 'y']], work);
  await turn();
  expect(begun.slice(2)).toEqual(['x', 'y']);
  await end('x');
  await end('y');
  await next;
});

it('waits for what is under way when no further page can be read', async () => {
  const { work, end } = works();
  async function* pages() {
    yield await Promise.resolve(['a']);
    throw new Error('no database');
  }
  let failure: unknown;
  const done = new Lanes(2).each(pages(), work).catch((error: Error) => (failure = error.message));
  await turn();
  expect(failure).toBeUndefined();
  await end('a');
  await done;
  expect(failure).toBe('no database');
});
