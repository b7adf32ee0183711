import { setImmediate as nextTurn } from 'node:timers/promises';
import { KafkaPartitions, type KafkaDelivery } from './kafka-partitions';
import { OrderedDispatch } from './ordered-dispatch';

const messages = (first: number, count: number) =>
  Array.from({ length: count }, (_, index) => ({
    partition: 0,
    offset: first + index,
    key: Buffer.from(`s${index}`),
    value: null,
    headers: {},
  }));

/** Makes partitions whose dispatch has room for two deliveries, and whose handlers end when the test ends them. */
function partitionsOf(member: { pause?: () => void; resume?: () => void }) {
  const broken: Error[] = [];
  const calls: string[] = [];
  const endings: (() => void)[] = [];
  const partitions = new KafkaPartitions({
    topic: 'events',
    group: 'test',
    logger: { log: () => undefined },
    wants: () => true,
    broken: (error) => broken.push(error),
    dispatchFrom: (after) =>
      new OrderedDispatch<KafkaDelivery>({
        after,
        concurrency: 4,
        backlog: 2,
        attempts: 1,
        backOff: { baseMs: 1, capMs: 1 },
        handle: () => new Promise((resolve) => endings.push(resolve)),
        failed: () => undefined,
        park: () => Promise.resolve(),
        broken: () => undefined,
      }),
  });
  const recorded = (call: string, then?: () => void) => (partition: number) => {
    calls.push(`${call} ${partition}`);
    then?.();
  };
  partitions.member = { pause: recorded('pause', member.pause), resume: recorded('resume', member.resume) };
  const endHandlers = async () => {
    for (const end of endings.splice(0)) end();
    await nextTurn();
  };
  return { partitions, broken, calls, endHandlers };
}

const refuses = () => {
  throw new Error('the client has disconnected');
};

describe('a partition whose dispatch is full', () => {
  it('is paused, and resumed when its handlers have ended', async () => {
    const { partitions, broken, calls, endHandlers } = partitionsOf({});
    partitions.assign([0]);
    partitions.take(0, messages(5, 2), 7);
    expect(calls).toEqual(['resume 0', 'pause 0']);
    await endHandlers();
    expect(calls).toEqual(['resume 0', 'pause 0', 'resume 0']);
    expect(broken).toEqual([]);
  });

  it('is not resumed when another member has it', async () => {
    const { partitions, calls, endHandlers } = partitionsOf({});
    partitions.assign([0]);
    partitions.take(0, messages(5, 2), 7);
    partitions.assign([]);
    await endHandlers();
    expect(calls).toEqual(['resume 0', 'pause 0']);
  });

  it('ends the session when it cannot be resumed, and leaves no rejection unhandled', async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown) => unhandled.push(error);
    process.on('unhandledRejection', note);
    try {
      const refusal = { resume: () => undefined };
      const { partitions, broken, endHandlers } = partitionsOf({ resume: () => refusal.resume() });
      partitions.assign([0]);
      partitions.take(0, messages(5, 2), 7);
      refusal.resume = refuses;
      await endHandlers();
      await nextTurn();
      expect(broken).toEqual([new Error('the client has disconnected')]);
      expect(unhandled).toEqual([]);
    } finally {
      process.off('unhandledRejection', note);
    }
  });

  it('ends the session when it cannot be paused', () => {
    const { partitions, broken } = partitionsOf({ pause: refuses });
    partitions.assign([0]);
    partitions.take(0, messages(5, 2), 7);
    expect(broken).toEqual([new Error('the client has disconnected')]);
  });
});

describe('offsets', () => {
  it('may be committed up to the first record that is not handled, and once', async () => {
    const { partitions, endHandlers } = partitionsOf({});
    partitions.assign([0]);
    partitions.take(0, messages(5, 2), 9);
    partitions.noteProgress(Date.now(), false);
    expect(partitions.uncommitted()).toEqual(new Map());
    await endHandlers();
    partitions.noteProgress(Date.now(), false);
    expect(partitions.uncommitted()).toEqual(new Map([[0, 7]]));
    expect(partitions.behind()).toBe(2);
    partitions.committed(new Map([[0, 7]]));
    expect(partitions.uncommitted()).toEqual(new Map());
  });

  it('that are read again below the last commit start again there', () => {
    const { partitions } = partitionsOf({});
    partitions.assign([0]);
    partitions.take(0, messages(5, 2), 7);
    partitions.committed(new Map([[0, 7]]));
    partitions.take(0, messages(0, 1), 1);
    partitions.noteProgress(Date.now(), false);
    expect(partitions.behind()).toBe(1);
  });
});
