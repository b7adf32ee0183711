/** An event, reduced to what the checker compares. */
export interface Known {
  /** The id in the form `stream/version`. */
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
  /** Events that were committed but are in no partition. */
  readonly lost: number;
  /** Records besides the first one of their event. */
  readonly duplicated: number;
  /** Events whose first record is after that of a later event of their stream. */
  readonly reordered: number;
  /** Streams with records in more than one partition. */
  readonly scattered: number;
  /** Records of events that were never committed. */
  readonly invented: number;
  /** Events in the topic that the consumer has not handled. */
  readonly unseen: number;
  /** Events that were first handled after a later event of their stream. */
  readonly handledOutOfOrder: number;
  /** Effects besides the first one of their event. */
  readonly repeatedEffects: number;
}

/**
 * Compares the committed events with the records in a topic and with the effects of a consumer.
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
  // The offset gives the order within a partition. A stream in more than one partition is counted as scattered.
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

/** Counts the events whose first occurrence is after a later version of their stream. */
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
