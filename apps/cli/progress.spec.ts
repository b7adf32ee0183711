import { PassThrough } from 'node:stream';
import { Progress } from './progress';

/** Collects what a stream has received since the last call; a stream that is a terminal can rewrite its line. */
function screen(isTTY: boolean) {
  const stream = Object.assign(new PassThrough({ encoding: 'utf8' }), { isTTY, columns: 120 });
  const text = () => {
    let all = '';
    // Up to Node 24 one read gives all that is buffered, from 26 on only one chunk of it.
    for (let part: string | null; (part = stream.read() as string | null) !== null;) all += part;
    return all;
  };
  return { stream, text };
}

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

describe('progress without a terminal', () => {
  it('is a plain line every few seconds, and one at the end', () => {
    const { stream, text } = screen(false);
    const progress = new Progress({ label: 'Rebuilding domains', total: 10_000, unit: 'events' }, stream);
    progress.reached(1);
    expect(text()).toBe('');
    jest.advanceTimersByTime(5_000);
    progress.reached(2_500);
    progress.reached(2_600);
    expect(text()).toBe('Rebuilding domains: 25 %, 2,500 of 10,000 events, 500/s, 15 s left\n');
    jest.advanceTimersByTime(120_000);
    progress.reached(10_000);
    progress.finish();
    expect(text()).toContain('100 %, 10,000 of 10,000 events, 80/s, 2 min 5 s\n');
  });

  it('shows no percentage and no remaining time without a total', () => {
    const { stream, text } = screen(false);
    const progress = new Progress({ label: 'Exporting', unit: 'events' }, stream);
    jest.advanceTimersByTime(10_000);
    progress.reached(50);
    expect(text()).toBe('Exporting: 50 events, 5/s\n');
  });

  it('ends with what was done when the total was an estimate', () => {
    const { stream, text } = screen(false);
    const progress = new Progress({ label: 'Rebuilding', total: 2_000, unit: 'events' }, stream);
    jest.advanceTimersByTime(1_000);
    progress.reached(1_900);
    progress.finish();
    expect(text()).toBe('Rebuilding: 100 %, 1,900 of 1,900 events, 1,900/s, 1 s\n');
  });

  it('does not count the items of an earlier run for the rate', () => {
    const { stream, text } = screen(false);
    const progress = new Progress({ label: 'Rebuilding', total: 2_000, unit: 'events', done: 1_000 }, stream);
    jest.advanceTimersByTime(10_000);
    progress.reached(1_100);
    expect(text()).toBe('Rebuilding: 55 %, 1,100 of 2,000 events, 10/s, 1 min 30 s left\n');
  });

  it('prints nothing more after it is abandoned', () => {
    const { stream, text } = screen(false);
    new Progress({ label: 'Rebuilding', total: 2, unit: 'events' }, stream).abandon();
    expect(text()).toBe('');
  });
});

describe('progress on a terminal', () => {
  it('is a bar in one line with rate and time left', () => {
    const { stream, text } = screen(true);
    const progress = new Progress({ label: 'Rebuilding domains', total: 1_000, unit: 'events' }, stream);
    jest.advanceTimersByTime(1_000);
    progress.reached(500);
    const shown = text();
    expect(shown).toContain('Rebuilding domains [');
    expect(shown).toMatch(/50 %, 500 of 1,000 events, 500\/s, 1 s left/);
    expect(shown).not.toContain('\n');
    progress.reached(1_000);
    progress.finish();
    // The cursor is visible again, and the next output begins on a new line.
    expect(text()).toMatch(/100 %, 1,000 of 1,000 events, .*\n$/s);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('restores the terminal when it is abandoned', () => {
    const { stream, text } = screen(true);
    const progress = new Progress({ label: 'Rebuilding', total: 10, unit: 'events' }, stream);
    progress.reached(4);
    progress.abandon();
    // eslint-disable-next-line no-control-regex
    expect(text()).toMatch(/40 %.*\x1b\[\?25h.*\n$/s);
    expect(jest.getTimerCount()).toBe(0);
  });
});
