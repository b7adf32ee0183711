import { Format, SingleBar } from 'cli-progress';
import { Interrupted } from './interruption';

/** Milliseconds between two plain lines. */
const quietMs = 5_000;

interface ProgressOptions {
  /** The name of the operation, such as `Rebuilding domains`. */
  readonly label: string;
  /** The number of items, which may be an estimate; unknown when absent, and then no remaining time is shown. */
  readonly total?: number;
  /** What is counted, such as `events`. */
  readonly unit: string;
  /** The number of items that an earlier run has done. They do not count for the rate. */
  readonly done?: number;
}

/**
 * Shows the progress of a long operation on standard error: a bar with rate and remaining time on a terminal, otherwise
 * a plain line every few seconds. Standard output is kept for the result.
 */
export class Progress {
  private readonly began = performance.now();
  private readonly before: number;
  private readonly bar: SingleBar | undefined;
  private done: number;
  private total: number | undefined;
  private toldAt = performance.now();

  constructor(
    private readonly options: ProgressOptions,
    private readonly stream: NodeJS.WritableStream & { isTTY?: boolean } = process.stderr,
  ) {
    this.before = this.done = options.done ?? 0;
    this.total = options.total;
    if (!stream.isTTY) return;
    this.bar = new SingleBar({
      stream,
      barsize: 24,
      format: (barOptions, { progress }, { time }: { time: string }) =>
        this.line(time, options.total ? ` [${Format.BarFormat(progress, barOptions)}]` : ':'),
      // The command handles Ctrl-C itself: see `interruption`.
      gracefulExit: false,
      hideCursor: true,
    });
    this.bar.start(options.total ?? 0, this.done, { time: '' });
  }

  /** @param done the number of items done by now, including those of earlier runs. */
  reached(done: number): void {
    this.done = done;
    if (this.bar) return this.bar.update(done, { time: this.timeLeft() });
    if (performance.now() - this.toldAt < quietMs) return;
    this.toldAt = performance.now();
    this.stream.write(`${this.line(this.timeLeft())}\n`);
  }

  /** Ends the display after the last item, with the total and the rate. */
  finish(): void {
    // The total may have been an estimate, and is exact now.
    if (this.total !== undefined) this.total = this.done;
    if (!this.bar) return void this.stream.write(`${this.line(this.timeTaken())}\n`);
    if (this.total !== undefined) this.bar.setTotal(this.total);
    this.bar.update(this.done, { time: this.timeTaken() });
    this.bar.stop();
  }

  /** Ends the display before the last item. What was shown stays, and the next output begins on a new line. */
  abandon(): void {
    this.bar?.stop();
  }

  private line(time: string, bar = ':'): string {
    const { label, unit } = this.options;
    const { total } = this;
    const percent = total ? ` ${Math.floor(Math.min(1, this.done / total) * 100)} %,` : '';
    const of = total === undefined ? '' : ` of ${number(total)}`;
    return `${label}${bar}${percent} ${number(this.done)}${of} ${unit}, ${number(this.rate())}/s${time}`;
  }

  /** Gives the items per second. */
  private rate(): number {
    return ((this.done - this.before) * 1_000) / Math.max(1, performance.now() - this.began);
  }

  private timeLeft(): string {
    const { total } = this;
    const rate = this.rate();
    return total === undefined || rate === 0 || this.done > total ? '' : `, ${time((total - this.done) / rate)} left`;
  }

  private timeTaken(): string {
    return `, ${time((performance.now() - this.began) / 1_000)}`;
  }
}

const number = (value: number): string => Math.round(value).toLocaleString('en');

const time = (seconds: number): string => {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};

/**
 * Runs `work` and ends its progress display.
 *
 * @param left sentences that say what an interruption leaves undone, and how to resume.
 * @throws {Interrupted} with `left`; any other error of `work` as it is.
 */
export async function stoppable<T>(progress: Progress, left: string, work: () => Promise<T>): Promise<T> {
  try {
    const result = await work();
    progress.finish();
    return result;
  } catch (error) {
    progress.abandon();
    if (error instanceof Interrupted) throw new Interrupted(`Interrupted. ${left}`, { cause: error });
    throw error;
  }
}
