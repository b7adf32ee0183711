/** Limits how many tasks run at the same time, over all callers. Waiting callers are served in order. */
export class ConcurrencyLimit {
  private readonly waiting: (() => void)[] = [];

  constructor(private free: number) {}

  /**
   * Runs the task for every item of every page. An item is taken when there is a place for it, and a page when the one
   * before it is used up, so a slow item only occupies its own place. Resolves when all tasks have ended.
   *
   * @throws the first error of the pages or a task; no task begins after that.
   */
  async forEach<Item>(
    pages: Iterable<readonly Item[]> | AsyncIterable<readonly Item[]>,
    task: (item: Item) => Promise<void>,
  ): Promise<void> {
    const tasks = new Tasks(() => this.release());
    try {
      for await (const page of pages) {
        for (const item of page) {
          if (this.free > 0) this.free -= 1;
          else await new Promise<void>((place) => this.waiting.push(place));
          if (tasks.failure) this.release();
          else tasks.begin(task, item);
        }
        if (tasks.failure) break;
      }
    } catch (error) {
      tasks.failure ??= { error };
    }
    await tasks.allEnded();
    if (tasks.failure) throw tasks.failure.error;
  }

  private release(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.free += 1;
  }
}

/** Counts the tasks of one caller that are under way, and keeps the first failure. */
class Tasks {
  failure: { readonly error: unknown } | undefined;
  private underWay = 0;
  private whenAllEnded: (() => void) | undefined;

  constructor(private readonly release: () => void) {}

  begin<Item>(task: (item: Item) => Promise<void>, item: Item): void {
    this.underWay += 1;
    try {
      task(item).then(this.end, this.fail);
    } catch (error) {
      this.fail(error);
    }
  }

  async allEnded(): Promise<void> {
    if (this.underWay > 0) await new Promise<void>((resolve) => (this.whenAllEnded = resolve));
  }

  private readonly end = (): void => {
    this.underWay -= 1;
    this.release();
    if (this.underWay === 0) this.whenAllEnded?.();
  };

  private readonly fail = (error: unknown): void => {
    this.failure ??= { error };
    this.end();
  };
}
