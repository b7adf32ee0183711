import { Epochs, type Epoch } from './epochs';

const log = 'a'.repeat(32);
const epoch = (number: number, after: number): Epoch => ({ log, number, after });
const at = (position: number, of?: Epoch) => ({ position, ...(of && { epoch: of }) });

describe('the epochs of a log', () => {
  const [first, second, third] = [epoch(1, 0), epoch(1_796_000_000, 100), epoch(1_797_000_000, 140)];
  const epochs = new Epochs([first, second, third]);

  it('gives the events of a log that was never restored none', () => {
    const never = new Epochs([first]);
    expect(never.of(1)).toBeUndefined();
    expect(never.placed(at(7))).toEqual({ position: 7 });
    expect(never.isVoid(at(7))).toBe(false);
  });

  it('gives each position the newest epoch that begins below it', () => {
    expect([1, 100, 101, 140, 141, 9_000].map((position) => epochs.of(position)?.number)).toEqual([
      undefined,
      undefined,
      second.number,
      second.number,
      third.number,
      third.number,
    ]);
  });

  it('finds void what a later epoch has begun below, and nothing else', () => {
    expect(epochs.isVoid(at(100))).toBe(false);
    expect(epochs.isVoid(at(101))).toBe(true);
    expect(epochs.isVoid(at(101, second))).toBe(false);
    expect(epochs.isVoid(at(141, second))).toBe(true);
    expect(epochs.isVoid(at(141, third))).toBe(false);
  });

  it('knows a restore of a restore, which has gone back before the first one', () => {
    // The log was taken back to a moment at which it did not know of the second epoch.
    const again = new Epochs([first, epoch(1_798_000_000, 90)]);
    expect(again.isVoid(at(101, second))).toBe(true);
    expect(again.isVoid(at(90))).toBe(false);
    expect(again.isVoid(at(91))).toBe(true);
  });

  it('knows events of a log that has been restored without its knowledge', () => {
    expect(new Epochs([first]).isAhead(at(101, second))).toBe(true);
    expect(epochs.isAhead(at(101, second))).toBe(false);
  });
});
