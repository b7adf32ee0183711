import { setImmediate as turn } from 'node:timers/promises';
import type { RecordedEvent } from '@app/event-store';
import type { CloudEvent } from '@app/messaging';
import { PartitionQueues, type PartitionQueuesOptions } from './partition-queues';

const event = (position: number, stream: string, data: object = {}): RecordedEvent => ({
  ...{ position, stream, version: position, type: 'Happened', schemaVersion: 1, data },
  ...{ time: '2026-11-01T00:00:00.000Z', metadata: { actor: 'test', correlationId: 'c' } },
});

/** Streams are named after their partition; sends end when told to. */
function queues(options: Partial<PartitionQueuesOptions> = {}) {
  const sends: { partition: number; ids: string[]; acknowledge: () => Promise<void>; fail: () => Promise<void> }[] = [];
  const broken: unknown[] = [];
  const made = new PartitionQueues({
    after: 0,
    partitionOf: (key) => Number(key.split('-')[0]),
    send: (partition, events: readonly CloudEvent[]) =>
      new Promise<void>((resolve, reject) => {
        sends.push({
          ...{ partition, ids: events.map(({ headers }) => headers.ce_id!) },
          acknowledge: () => (resolve(), turn()),
          fail: () => (reject(new Error('no answer')), turn()),
        });
      }),
    broken: (error) => broken.push(error),
    ...options,
  });
  return { made, sends, broken };
}

it('is done up to the first event that is not acknowledged, in whatever partition', async () => {
  const { made, sends } = queues({ after: 10 });
  for (const [position, stream] of [[11, '0-a'], [12, '1-b'], [15, '0-c']] as const) made.push(event(position, stream)); // prettier-ignore
  made.skip(20);
  await turn();
  expect(made).toMatchObject({ position: 10, seen: 20 });
  expect(sends.map(({ ids }) => ids)).toEqual([['0-a/11', '0-c/15'], ['1-b/12']]);
  await sends[0]!.acknowledge();
  expect(made.position).toBe(11);
  await sends[1]!.acknowledge();
  expect(made.position).toBe(20);
});

it('has one send at a time in each partition; what comes meanwhile goes with the next, in order', async () => {
  const { made, sends } = queues();
  made.push(event(1, '0-a'));
  await turn();
  for (const position of [2, 3, 4]) made.push(event(position, '0-a'));
  made.push(event(5, '1-b'));
  await turn();
  expect(sends.map(({ ids }) => ids)).toEqual([['0-a/1'], ['1-b/5']]);
  await sends[0]!.acknowledge();
  expect(sends[2]!.ids).toEqual(['0-a/2', '0-a/3', '0-a/4']);
});

it('keeps a send below what a broker takes at once, in events and in bytes', async () => {
  const { made, sends } = queues();
  for (let position = 1; position <= 600; position++) made.push(event(position, '0-a'));
  for (let position = 601; position <= 604; position++)
    made.push(event(position, '1-b', { text: 'x'.repeat(position === 601 ? 900_000 : 150_000) }));
  await turn();
  expect(sends.map(({ ids }) => ids.length)).toEqual([500, 1]);
  await sends[1]!.acknowledge();
  await sends[0]!.acknowledge();
  expect(sends.map(({ ids }) => ids.length)).toEqual([500, 1, 2, 100]);
});

it('sends nothing more after a send that failed: its events, and those behind it, are not done', async () => {
  const { made, sends, broken } = queues();
  for (const [position, stream] of [[1, '0-a'], [2, '1-b'], [3, '0-a']] as const) made.push(event(position, stream)); // prettier-ignore
  await turn();
  await sends[1]!.acknowledge();
  await sends[0]!.fail();
  made.push(event(4, '1-b'));
  await turn();
  expect(broken).toEqual([new Error('no answer')]);
  expect(sends).toHaveLength(2);
  expect(made.position).toBe(0);
  await made.stop();
});

it('takes no more than it can hold until some are acknowledged', async () => {
  const { made, sends } = queues();
  for (let position = 1; position <= 10_000; position++) made.push(event(position, '0-a'));
  let room = false;
  void made.room().then(() => (room = true));
  await turn();
  expect(room).toBe(false);
  await sends[0]!.acknowledge();
  expect(room).toBe(true);
});

it('waits for what is being sent when it stops', async () => {
  const { made, sends } = queues();
  made.push(event(1, '0-a'));
  await turn();
  let stopped = false;
  void made.stop().then(() => (stopped = true));
  await turn();
  expect(stopped).toBe(false);
  await sends[0]!.acknowledge();
  expect(stopped).toBe(true);
  expect(made.position).toBe(1);
});
