import { setImmediate as turn } from 'node:timers/promises';
import type { RecordedEvent } from '@app/event-store';
import { PublishQueue } from './publish-queue';

const event = (position: number, data: object = {}): RecordedEvent => ({
  ...{ position, stream: 's', version: position, type: 'Happened', schemaVersion: 1, data },
  ...{ time: '2026-11-01T00:00:00.000Z', metadata: { actor: 'test', correlationId: 'c' } },
});

/** Sends end when told to. */
function queue(after = 0) {
  const sends: { ids: string[]; acknowledge: () => Promise<void>; fail: () => Promise<void> }[] = [];
  const broken: unknown[] = [];
  const made = new PublishQueue({
    after,
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

it('has one send at a time; what comes meanwhile goes with the next, in the order of the log', async () => {
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

it('is done up to what is acknowledged', async () => {
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

it('keeps a send below what a broker takes at once, in events and in bytes', async () => {
  const { made, push, sends } = queue();
  push(...Array.from({ length: 600 }, (_, index) => index + 1));
  for (let position = 601; position <= 604; position++)
    made.push(event(position, { text: 'x'.repeat(position === 601 ? 900_000 : 150_000) }));
  await turn();
  for (let send = 0; send < 4; send++) await sends[send]!.acknowledge();
  expect(sends.map(({ ids }) => ids.length)).toEqual([500, 100, 1, 2, 1]);
});

it('sends nothing more after a send that failed: its events, and those behind it, are not done', async () => {
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

it('takes no more than it can hold until some are acknowledged', async () => {
  const { made, push, sends } = queue();
  push(...Array.from({ length: 5_000 }, (_, index) => index + 1));
  let room = false;
  void made.room().then(() => (room = true));
  await turn();
  expect(room).toBe(false);
  await sends[0]!.acknowledge();
  expect(room).toBe(true);
});

it('waits for what is being sent when it stops, and starts nothing more', async () => {
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
