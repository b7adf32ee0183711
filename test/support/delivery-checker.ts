/** An event, as the checker knows it. */
export interface Known {
  /** `stream/version` */
  readonly id: string;
  readonly stream: string;
  readonly version: number;
}

/** A record of the topic. */
export interface Arrival extends Known {
  readonly partition: number;
  readonly offset: number;
}

export interface DeliveryFaults {
  /** Committed, and in no partition. */
  readonly lost: number;
  /** Records beyond the first one of their event. */
  readonly duplicated: number;
  /** Events that arrived first after a later one of their stream. */
  readonly reordered: number;
  /** Streams in more than one partition. */
  readonly scattered: number;
  /** In a partition, and never committed. */
  readonly invented: number;
  /** Arrived, and the consumer never handled them. */
  readonly unseen: number;
  /** Handled first after a later event of their stream. */
  readonly handledOutOfOrder: number;
  /** Effects beyond the first one of their event. */
  readonly repeatedEffects: number;
}

/**
 * Compares what was committed with what arrived in a topic and with what a consumer did.
 *
 * @param handled each call of the handler that succeeded, in order.
 * @param effects the event of each effect.
 */
export function checkDelivery(
  committed: readonly Known[],
  arrivals: readonly Arrival[],
  handled: readonly Known[],
  effects: readonly string[],
): DeliveryFaults {
  const wanted = new Set(committed.map(({ id }) => id));
  const arrived = new Map<string, number>();
  const partitions = new Map<string, Set<number>>();
  // Within a partition the offset is the order; a stream is in one, or it is counted as scattered.
  const inOrder = [...arrivals].sort((a, b) => a.partition - b.partition || a.offset - b.offset);
  for (const { id, stream, partition } of inOrder) {
    arrived.set(id, (arrived.get(id) ?? 0) + 1);
    partitions.set(stream, (partitions.get(stream) ?? new Set()).add(partition));
  }
  const seen = new Set(handled.map(({ id }) => id));
  return {
    lost: count(wanted, (id) => !arrived.has(id)),
    duplicated: arrivals.length - arrived.size,
    reordered: outOfOrder(inOrder),
    scattered: count(partitions.values(), ({ size }) => size > 1),
    invented: count(arrived.keys(), (id) => !wanted.has(id)),
    unseen: count(arrived.keys(), (id) => !seen.has(id)),
    handledOutOfOrder: outOfOrder(handled),
    repeatedEffects: effects.length - new Set(effects).size,
  };
}

/** First occurrences below a version of their stream that came before. */
function outOfOrder(events: readonly Known[]): number {
  const highest = new Map<string, number>();
  const already = new Set<string>();
  return count(events, ({ id, stream, version }) => {
    if (already.has(id)) return false;
    already.add(id);
    const before = highest.get(stream) ?? 0;
    highest.set(stream, Math.max(before, version));
    return version < before;
  });
}

function count<T>(items: Iterable<T>, is: (item: T) => boolean): number {
  let sum = 0;
  for (const item of items) if (is(item)) sum++;
  return sum;
}
