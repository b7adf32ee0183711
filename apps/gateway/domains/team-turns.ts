import { ApiError } from '../http/api-error';

interface Turns {
  running: number;
  readonly waiting: (() => void)[];
}

/**
 * Limits how many tasks of a team run at the same time, so that one with slow or hostile zones delays itself alone.
 * Further tasks wait in their order.
 */
export class TeamTurns {
  private readonly teams = new Map<string, Turns>();

  /**
   * @param most tasks of a team that run at a time.
   * @param mostWaiting tasks of a team that wait.
   */
  constructor(
    private readonly most: number,
    private readonly mostWaiting: number,
  ) {}

  /** @throws {ApiError} `rate_limit_exceeded` when too many wait already. */
  async run<Result>(team: string, task: () => Promise<Result>): Promise<Result> {
    const turns = this.teams.get(team) ?? { running: 0, waiting: [] };
    this.teams.set(team, turns);
    if (turns.running < this.most) turns.running += 1;
    else if (turns.waiting.length < this.mostWaiting) await new Promise<void>((turn) => turns.waiting.push(turn));
    else
      throw new ApiError(
        'rate_limit_exceeded',
        `Your team waits for ${this.mostWaiting + this.most} looks at the DNS already. Wait for some of them.`,
        { retryAfter: 5 },
      );
    try {
      return await task();
    } finally {
      const next = turns.waiting.shift();
      if (next) next();
      else {
        turns.running -= 1;
        if (turns.running === 0) this.teams.delete(team);
      }
    }
  }
}
