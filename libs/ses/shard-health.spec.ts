import { ShardHealth } from './shard-health';

let told: unknown[];
let health: ShardHealth;

beforeEach(() => {
  jest.useFakeTimers();
  told = [];
  health = new ShardHealth('us-1', {
    failed: (...said) => (told.push(said), Promise.resolve()),
    answers: (shard) => (told.push(shard), Promise.reject(new Error('the database is away'))),
  });
});
afterEach(() => jest.useRealTimers());

const silence = (calls: number) => {
  for (let i = 0; i < calls; i++) health.failed('no_answer', false);
};

describe('the health of a shard', () => {
  it('counts a call without an answer, and does not call the shard failing', () => {
    silence(2);
    expect(told).toEqual([]);
    jest.advanceTimersByTime(1_000);
    expect(told).toEqual([['us-1', 2, 'no_answer', false]]);
  });

  it('is failing after three calls in a row without an answer, and no longer with the next answer', () => {
    silence(2);
    health.answered();
    silence(2);
    health.answered();
    expect(told).toEqual([]);
    silence(3);
    expect(told).toEqual([['us-1', 7, 'no_answer', true]]);
    health.answered();
    expect(told.slice(1)).toEqual(['us-1']);
    health.answered();
    expect(told).toHaveLength(2);
  });

  it('is failing at once where SES refuses this installation, and an answer to another call does not change it', () => {
    health.failed('AccessDenied', true);
    expect(told).toEqual([['us-1', 1, 'AccessDenied', true]]);
    health.answered();
    expect(told).toHaveLength(1);
  });

  it('goes on to say so once a second while it fails', () => {
    silence(3);
    for (let i = 0; i < 10; i++) {
      silence(5);
      jest.advanceTimersByTime(1_000);
    }
    expect(told.slice(1)).toEqual(Array.from({ length: 10 }, () => ['us-1', 5, 'no_answer', true]));
  });
});
