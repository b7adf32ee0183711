/** Lets a fixed number of works run at once, whoever brings them; who waits for a lane gets it in the order of asking. */
export class Lanes {
  private readonly waiting: (() => void)[] = [];

  constructor(private free: number) {}

  /**
   * Does the work on every item of every page. An item is taken when there is a lane for it, and a page when the one before it
   * is used up: slow items hold their lanes, and nothing else. Ends when all that was begun has ended.
   *
   * @throws what the pages or a work threw first; nothing is begun after that.
   */
  async each<Item>(
    pages: Iterable<readonly Item[]> | AsyncIterable<readonly Item[]>,
    work: (item: Item) => Promise<void>,
  ): Promise<void> {
    let failure: { readonly error: unknown } | undefined;
    let underWay = 1;
    let resolve!: () => void;
    const allEnded = new Promise<void>((resolved) => (resolve = resolved));
    const end = () => {
      if (--underWay === 0) resolve();
    };
    const leave = () => {
      const next = this.waiting.shift();
      if (next) next();
      else this.free += 1;
      end();
    };
    const fail = (error: unknown) => void (failure ??= { error });
    const failed = (error: unknown) => (fail(error), leave());
    const begin = (item: Item) => {
      try {
        work(item).then(leave, failed);
      } catch (error) {
        failed(error);
      }
    };
    try {
      for await (const page of pages) {
        for (const item of page) {
          if (this.free > 0) this.free -= 1;
          else await new Promise<void>((turn) => this.waiting.push(turn));
          underWay += 1;
          if (failure) leave();
          else begin(item);
        }
        if (failure) break;
      }
    } catch (error) {
      fail(error);
    }
    end();
    await allEnded;
    if (failure) throw failure.error;
  }
}
