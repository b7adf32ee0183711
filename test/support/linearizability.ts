/**
 * Decides whether a history of concurrent operations is linearizable (Herlihy and Wing, 1990): whether each operation
 * can be given moments between its invocation and its answer at which it took effect, so that all of them, one after
 * another, are what a sequential object does. The search is that of Wing and Gong (1993), with the configurations that
 * were seen kept, as by Lowe (2017). Pure.
 *
 * An operation may take effect in several steps: what adds a domain first reserves its name, and makes it visible
 * later.
 */

export interface Operation {
  /** Milliseconds of any one clock. */
  readonly invokedAt: number;
  /** Infinity where no answer has come: it may take effect at any time after its invocation, in part, or never. */
  readonly answeredAt: number;
}

export interface SequentialObject<State, Op extends Operation> {
  /** Plain data: two states with the same JSON are the same. */
  readonly initial: State;
  /**
   * Gives how many steps an operation can have, and how many of them come before its answer. One that only reads has
   * one step, and changes no state except for what is learnt of it.
   */
  steps(op: Op): { readonly most: number; readonly beforeAnswer: number; readonly isRead: boolean };
  /** Gives the states that can follow; none where this step, with the answer of the operation, cannot be now. */
  next(state: State, op: Op, index: number, step: number): readonly State[];
}

export interface Verdict<Op> {
  /** `undecided` after more configurations than were allowed. */
  readonly is: 'linearizable' | 'not linearizable' | 'undecided';
  readonly configurations: number;
  /** Where no order was found: the operations that no order has come past, of those that come furthest. */
  readonly stuck: readonly Op[];
}

/** Configurations that are looked at; each takes a few microseconds, and some hundred octets. */
const mostConfigurations = 1_000_000;

export function linearize<State, Op extends Operation>(
  history: readonly Op[],
  object: SequentialObject<State, Op>,
  most = mostConfigurations,
): Verdict<Op> {
  const ops = [...history].sort((a, b) => a.invokedAt - b.invokedAt);
  const steps = ops.map((op) => object.steps(op));
  const seen = new Set<string>();
  let furthest = -1;
  let stuck: readonly Op[] = [];

  /** The operations whose next step may come now: none is before what was answered before its invocation. */
  const candidates = (done: readonly number[]): number[] => {
    let firstAnswer = Infinity;
    ops.forEach(({ answeredAt }, i) => {
      if (done[i]! < steps[i]!.beforeAnswer) firstAnswer = Math.min(firstAnswer, answeredAt);
    });
    return ops.flatMap(({ invokedAt }, i) => (done[i]! < steps[i]!.most && invokedAt <= firstAnswer ? [i] : []));
  };
  const stepped = (done: readonly number[], i: number): number[] => done.with(i, done[i]! + 1);

  // The configurations that are still to be looked at, the newest last.
  const open: { readonly done: readonly number[]; readonly state: State }[] = [
    { done: ops.map(() => 0), state: object.initial },
  ];
  while (open.length > 0) {
    let { done } = open.at(-1)!;
    const { state } = open.pop()!;
    const text = JSON.stringify(state);
    // A read that can be now, and teaches nothing, is done at once: it is in nobody's way.
    for (let again = true; again;) {
      again = false;
      for (const i of candidates(done)) {
        if (!steps[i]!.isRead) continue;
        const after = object.next(state, ops[i]!, i, 0);
        if (after.length !== 1 || JSON.stringify(after[0]) !== text) continue;
        done = stepped(done, i);
        again = true;
      }
    }
    if (done.every((count, i) => count >= steps[i]!.beforeAnswer))
      return { is: 'linearizable', configurations: seen.size, stuck: [] };
    const key = `${done.join()} ${text}`;
    if (seen.has(key)) continue;
    if (seen.size >= most) return { is: 'undecided', configurations: seen.size, stuck };
    seen.add(key);
    const possible = candidates(done);
    const total = done.reduce((sum, count) => sum + count, 0);
    if (total > furthest) {
      furthest = total;
      stuck = possible.map((i) => ops[i]!);
    }
    for (const i of possible.toReversed())
      for (const after of object.next(state, ops[i]!, i, done[i]!)) open.push({ done: stepped(done, i), state: after });
  }
  return { is: 'not linearizable', configurations: seen.size, stuck };
}
