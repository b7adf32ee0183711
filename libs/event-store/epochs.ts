/**
 * An epoch of a log: from one restore to the next. A restore takes the log back to an earlier moment, so that it gives
 * versions a second time, and its events say to which time they belong.
 */
export interface Epoch {
  /** Identifies the log for ever, as its seals do. */
  readonly log: string;
  /** Grows with each restore: 1, and then the second of the Unix epoch in which the log was restored. */
  readonly number: number;
  /** Events above this position belong to the epoch, or to a later one. Those of earlier epochs are void there. */
  readonly after: number;
}

/** What says to which epoch an event belongs. */
interface Placed {
  readonly position: number;
  /** The epoch of the event; absent in the first. */
  readonly epoch?: Epoch;
}

/** The epochs of a log, the first one first. The position of an event says to which it belongs. */
export class Epochs {
  constructor(private readonly all: readonly Epoch[]) {}

  /** The newest epoch that is known; undefined of a log without any. */
  get newest(): Epoch | undefined {
    return this.all.at(-1);
  }

  /** Gives the epoch of a position; undefined for the first, which nothing names. */
  of(position: number): Epoch | undefined {
    const found = this.all.findLast(({ after }) => after < position);
    return found && found.number > 1 ? found : undefined;
  }

  /** Gives the event with its epoch, where that is not the first. */
  placed<Event extends Placed>(event: Event): Event {
    const epoch = this.of(event.position);
    return epoch ? { ...event, epoch } : event;
  }

  /** Tells whether an event is of a history that a restore has ended: the log does not have it, or has it again. */
  isVoid({ position, epoch }: Placed): boolean {
    const number = epoch?.number ?? 1;
    return this.all.some((later) => later.number > number && later.after < position);
  }

  /** Tells whether an event is of an epoch that is newer than all that are known here. */
  isAhead({ epoch }: Placed): boolean {
    return epoch !== undefined && epoch.number > (this.newest?.number ?? 1);
  }
}
