import { Format, SingleBar } from 'cli-progress';

/** Between two plain lines, in milliseconds. */
const quietMs = 5_000;

interface Work {
  /** What is done, such as `Rebuilding domains`. */
  readonly label: string;
  /** How many there are to do, or about so. Absent: nobody knows, and there is no time left to tell. */
  readonly total?: number;
  /** What is counted, such as `events`. */
  readonly unit: string;
  /** How many were done by an earlier run: they do not count for the rate. */
  readonly done?: number;
}

/**
 * How far long work has come, on standard error: on a terminal a bar with rate and time left, elsewhere a plain line every few
 * seconds. Standard output stays free for the result.
 */
export class Progress {
  private readonly began = performance.now();
  private readonly before: number;
  private readonly bar: SingleBar | undefined;
  private done: number;
  private total: number | undefined;
  private toldAt = performance.now();

  constructor(
    private readonly work: Work,
    private readonly stream: NodeJS.WritableStream & { isTTY?: boolean } = process.stderr,
  ) {
    this.before = this.done = work.done ?? 0;
    this.total = work.total;
    if (!stream.isTTY) return;
    this.bar = new SingleBar({
      stream,
      barsize: 24,
      format: (options, { progress }, { time }: { time: string }) =>
        this.line(time, work.total ? ` [${Format.BarFormat(progress, options)}]` : ':'),
      // Ctrl-C is the command's: see `interruption`.
      gracefulExit: false,
      hideCursor: true,
    });
    this.bar.start(work.total ?? 0, this.done, { time: '' });
  }

  /** @param done how many are done by now, those of earlier runs with them. */
  reached(done: number): void {
    this.done = done;
    if (this.bar) return this.bar.update(done, { time: this.timeLeft() });
    if (performance.now() - this.toldAt < quietMs) return;
    this.toldAt = performance.now();
    this.stream.write(`${this.line(this.timeLeft())}\n`);
  }

  /** All is done: says how many, and how fast. */
  finish(): void {
    // A total that was an estimate is known now.
    if (this.total !== undefined) this.total = this.done;
    if (!this.bar) return void this.stream.write(`${this.line(this.timeTaken())}\n`);
    if (this.total !== undefined) this.bar.setTotal(this.total);
    this.bar.update(this.done, { time: this.timeTaken() });
    this.bar.stop();
  }

  /** The work ends before its time: what was shown stays as it is, and the next line begins at the left. */
  abandon(): void {
    this.bar?.stop();
  }

  private line(time: string, bar = ':'): string {
    const { label, unit } = this.work;
    const { total } = this;
    const percent = total ? ` ${Math.floor(Math.min(1, this.done / total) * 100)} %,` : '';
    const of = total === undefined ? '' : ` of ${number(total)}`;
    return `${label}${bar}${percent} ${number(this.done)}${of} ${unit}, ${number(this.rate())}/s${time}`;
  }

  /** A second. */
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
