import { backOffMs } from '@app/runtime';

const waits = { baseMs: 500, capMs: 60_000 };
/** Milliseconds after which an end of a process is forgotten. */
const rememberedMs = 600_000;

/** Says how long to wait until a process is started again that has ended: the longer, the more often it has lately. */
export class RestartBackOff {
  private ends: number[] = [];

  constructor(private readonly clock: () => number = () => performance.now()) {}

  /** Counts an end. Gives the wait in milliseconds, and how often the process has ended within ten minutes. */
  ended(): { waitMs: number; times: number } {
    const now = this.clock();
    this.ends = [...this.ends.filter((at) => now - at < rememberedMs), now];
    return { waitMs: backOffMs(waits, this.ends.length), times: this.ends.length };
  }
}

/** What is said of a process that is started again. */
export const startingAgain = ({ waitMs, times }: ReturnType<RestartBackOff['ended']>): string =>
  `starting it again in ${(waitMs / 1000).toFixed(1)} s${times > 1 ? ` (${times} times within ten minutes)` : ''}`;
