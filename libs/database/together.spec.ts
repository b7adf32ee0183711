import { Together } from './together';

const asked: string[][] = [];
let failure: Error | undefined;
const together = new Together<string, { of: string }>(
  (key) => key,
  (keys) => {
    asked.push([...keys]);
    if (failure) return Promise.reject(failure);
    return Promise.resolve(new Map(keys.filter((key) => key !== 'absent').map((key) => [key, { of: key }])));
  },
);
beforeEach(() => {
  asked.length = 0;
  failure = undefined;
});

it('reads with one query what is asked for in one turn, each key once', async () => {
  const found = await Promise.all(['a', 'b', 'absent', 'a'].map((key) => together.of(key)));
  expect(found).toEqual([{ of: 'a' }, { of: 'b' }, undefined, { of: 'a' }]);
  expect(asked).toEqual([['a', 'b', 'absent']]);
});

it('reads together what is asked for later in the same turn, as by a request whose step before is done', async () => {
  const later = Promise.resolve().then(() => together.of('b'));
  const last = new Promise((done) => process.nextTick(() => done(together.of('c'))));
  await Promise.all([together.of('a'), later, last]);
  expect(asked).toEqual([['a', 'b', 'c']]);
});

it('reads anew what is asked for in the next turn, while the query before is under way', async () => {
  const first = together.of('a');
  await new Promise((done) => setImmediate(done));
  await Promise.all([first, together.of('a')]);
  expect(asked).toEqual([['a'], ['a']]);
});

it('asks for at most a hundred keys with one query', async () => {
  const keys = Array.from({ length: 250 }, (_, i) => `key${i}`);
  expect(await Promise.all(keys.map((key) => together.of(key)))).toEqual(keys.map((key) => ({ of: key })));
  expect(asked.map(({ length }) => length)).toEqual([100, 100, 50]);
});

it('fails for all who have asked, and for nobody after them', async () => {
  failure = new Error('away');
  const found = await Promise.allSettled([together.of('a'), together.of('b')]);
  expect(found.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  failure = undefined;
  expect(await together.of('a')).toEqual({ of: 'a' });
});
