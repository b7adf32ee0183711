import { setImmediate as turn } from 'node:timers/promises';
import type { RecordedEvent } from '@app/event-store';
import { RecordRefused } from '@app/messaging';
import { PublishQueue, type PublishQueueOptions } from './publish-queue';

const event = (position: number, data: object = {}, stream = 's'): RecordedEvent => ({
  position,
  stream,
  version: position,
  type: 'Happened',
  schemaVersion: 1,
  data,
  time: '2026-11-01T00:00:00.000Z',
  metadata: { actor: 'test', correlationId: 'c' },
});

const nothingRefused: PublishQueueOptions['refused'] = {
  isWaiting: () => false,
  wait: () => Promise.reject(new Error('nothing waits')),
  park: () => Promise.reject(new Error('nothing is refused')),
  redrive: () => Promise.resolve(false),
};

/** Makes a queue whose sends end when the test says so. */
function queue(after = 0) {
  const sends: { ids: string[]; acknowledge: () => Promise<void>; fail: () => Promise<void> }[] = [];
  const broken: unknown[] = [];
  const made = new PublishQueue({
    after,
    refused: nothingRefused,
    send: (events) =>
      new Promise<void>((resolve, reject) => {
        sends.push({
          ids: events.map(({ headers }) => headers.ce_id!),
          acknowledge: () => (resolve(), turn()),
          fail: () => (reject(new Error('no answer')), turn()),
        });
      }),
    broken: (error) => broken.push(error),
  });
  const push = (...positions: number[]) => positions.forEach((position) => made.push(event(position)));
  return { made, push, sends, broken };
}

it('sends one batch at a time; events that arrive meanwhile form the next, in the order of the log', async () => {
  const { push, sends } = queue();
  push(1, 2);
  await turn();
  push(3);
  push(5);
  await turn();
  expect(sends.map(({ ids }) => ids)).toEqual([['s/1', 's/2']]);
  await sends[0]!.acknowledge();
  expect(sends.map(({ ids }) => ids)).toEqual([
    ['s/1', 's/2'],
    ['s/3', 's/5'],
  ]);
});

it('has the position of the last acknowledged event', async () => {
  const { made, push, sends } = queue(10);
  expect(made).toMatchObject({ position: 10, seen: 10 });
  push(11, 12);
  await turn();
  push(15);
  made.skip(20);
  expect(made).toMatchObject({ position: 10, seen: 20 });
  await sends[0]!.acknowledge();
  expect(made.position).toBe(12);
  await sends[1]!.acknowledge();
  expect(made.position).toBe(20);
});

it('limits a batch to what a broker accepts, in events and in bytes', async () => {
  const { made, push, sends } = queue();
  push(...Array.from({ length: 600 }, (_, index) => index + 1));
  for (let position = 601; position <= 604; position++)
    made.push(event(position, { text: 'x'.repeat(position === 601 ? 900_000 : 150_000) }));
  await turn();
  for (let send = 0; send < 4; send++) await sends[send]!.acknowledge();
  expect(sends.map(({ ids }) => ids.length)).toEqual([500, 100, 1, 2, 1]);
});

it('sends nothing more after a failed send, and acknowledges none of the later events', async () => {
  const { made, push, sends, broken } = queue();
  push(1);
  await turn();
  push(2);
  await sends[0]!.fail();
  push(3);
  await turn();
  expect(broken).toEqual([new Error('no answer')]);
  expect(sends).toHaveLength(1);
  expect(made.position).toBe(0);
  await made.stop();
  await made.room();
});

it('has no room while too many events are unacknowledged', async () => {
  const { made, push, sends } = queue();
  push(...Array.from({ length: 5_000 }, (_, index) => index + 1));
  let room = false;
  void made.room().then(() => (room = true));
  await turn();
  expect(room).toBe(false);
  await sends[0]!.acknowledge();
  expect(room).toBe(true);
});

it('finishes the batch under way when it stops, and begins no other', async () => {
  const { made, push, sends } = queue();
  push(1);
  await turn();
  push(2);
  let stopped = false;
  void made.stop().then(() => (stopped = true));
  await turn();
  expect(stopped).toBe(false);
  await sends[0]!.acknowledge();
  expect(stopped).toBe(true);
  expect(sends).toHaveLength(1);
  expect(made.position).toBe(1);
});

/** Makes a queue whose brokers refuse events, by their ids. */
function refusing(ids: readonly string[]) {
  const did: string[] = [];
  const waiting = new Set<string>();
  const broken: unknown[] = [];
  const made = new PublishQueue({
    after: 0,
    refused: {
      isWaiting: ({ stream }) => waiting.has(stream),
      wait: (events) => Promise.resolve(void did.push(...events.map(({ position }) => `waits ${position}`))),
      park: ({ stream, position }) => {
        waiting.add(stream);
        return Promise.resolve(void did.push(`parked ${position}`));
      },
      redrive: () => Promise.resolve(false),
    },
    send: (events) => {
      const sent = events.map(({ headers }) => headers.ce_id!);
      if (sent.some((id) => ids.includes(id)))
        return Promise.reject(new RecordRefused('MESSAGE_TOO_LARGE', new Error('too large')));
      did.push(...sent.map((id) => `sent ${id}`));
      return Promise.resolve();
    },
    broken: (error) => broken.push(error),
  });
  return { made, did, broken };
}

it('N2: parks what the brokers refuse, and what comes later in its stream; all others are sent', async () => {
  const { made, did, broken } = refusing(['a/2', 'b/7']);
  for (const [position, stream] of Object.entries(['', 'a', 'a', 'b', 'a', 'b', 'c', 'b', 'b', 'a', 'c']))
    if (stream) made.push(event(Number(position), {}, stream));
  for (let turns = 0; turns < 50; turns++) await turn();
  const stateOf = (stream: string) => did.filter((each) => new RegExp(`sent ${stream}/`).test(each));
  expect(stateOf('a')).toEqual(['sent a/1']);
  expect(stateOf('b')).toEqual(['sent b/3', 'sent b/5']);
  expect(stateOf('c')).toEqual(['sent c/6', 'sent c/10']);
  expect(did.filter((each) => !each.startsWith('sent')).sort()).toEqual([
    'parked 2',
    'parked 7',
    'waits 4',
    'waits 8',
    'waits 9',
  ]);
  expect(broken).toEqual([]);
  expect(made.position).toBe(10);
  await made.stop();
});
