import type { EventLog, RecordedEvent } from '@app/event-store';
import { EventTransport, stalledMs, type EventTransportOptions } from './event-transport';
import { LogReader, type LogProgress, type LogReaderStatus } from './log-reader';
import { parkedEvent, ParkedMessages } from './parked-messages';

export interface LogTransportOptions extends EventTransportOptions {
  readonly log: Pick<EventLog, 'head' | 'read' | 'follow'>;
  /** Where a group without checkpoint starts. */
  readonly startFrom: 'beginning' | 'now';
  /** Streams that are handled at once; 16 when absent. */
  readonly concurrency?: number;
  /** Shortest time between two checkpoints, in milliseconds; 100 when absent. */
  readonly checkpointMs?: number;
  /** Milliseconds between a stand-by's attempts to become active; 1,000 when absent. */
  readonly standByMs?: number;
  /** Milliseconds from hearing of an event to reading it; none when absent. `Following` of the event log has more. */
  readonly lingerMs?: number | undefined;
}

const backlog = 1_000;

/**
 * Nest transport that delivers the events of the log to `@EventPattern` handlers, in the order of each stream, at least
 * once. One process of a group reads at a time; it parks messages under the same lock under which it writes
 * checkpoints.
 */
export class LogTransport extends EventTransport<LogReaderStatus> {
  override readonly transportId = Symbol('log');
  private readonly reader: LogReader;

  constructor(private readonly options: LogTransportOptions) {
    super(options);
    const { concurrency = 16, pool, log, group, startFrom, checkpointMs, standByMs, lingerMs, onFatal } = options;
    this.reader = new LogReader({
      pool,
      log,
      startFrom,
      name: group,
      closeWithinMs: this.closeWithinMs,
      ...(checkpointMs && { checkpointMs }),
      ...(standByMs && { standByMs }),
      ...(onFatal && { onFatal }),
      wants: ({ type }) => this.wants(type),
      isPromptFor: (type) => this.wants(type),
      lingerMs,
      open: ({ after, query, lose }) =>
        this.dispatch<RecordedEvent>({
          after,
          backlog,
          concurrency,
          handle: (event) => this.handle(event),
          parked: parkedEvent,
          park: (what, error, tries) => new ParkedMessages(query).park(group, what, error, tries),
          broken: lose,
        }),
      onStatus: (status) => this._status$.next(status),
    });
  }

  progress(): LogProgress {
    return this.reader.progress();
  }

  assertProgress(afterMs = stalledMs): void {
    if (!this.isDatabaseAway) this.reader.assertProgress(afterMs);
  }

  unwrap<T>(): T {
    return this.options.log as T;
  }

  protected start(): void {
    this.reader.start();
  }

  protected stop(): Promise<void> {
    return this.reader.close();
  }

  protected behind(): number | undefined {
    const { status, head, position } = this.reader.progress();
    return status === 'active' ? head - position : undefined;
  }
}
