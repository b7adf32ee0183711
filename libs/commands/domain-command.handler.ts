import { Injectable, Logger } from '@nestjs/common';
import { EventStore, UniqueViolation, WrongExpectedVersion, type RecordedEvent } from '@app/event-store';
import {
  decide,
  DomainRuleBroken,
  evolve,
  initialState,
  schemaVersions,
  type DomainCommand,
  type DomainEvent,
  type MailDomain,
} from '@app/mail-domain';
import { domainRow, nameReservation } from '@app/read-model';

/** How often a decision that lost a race is made again before the conflict is the caller's. */
const attempts = 8;

/** What a command led to: the state after it, the version of the stream, and what is new. */
export interface Decided {
  readonly state: MailDomain;
  readonly version: number;
  readonly events: readonly DomainEvent[];
}

/**
 * The only place where the model and the store meet.
 *
 * @throws {DomainRuleBroken} `conflict` when the name is reserved by another domain, and whatever `decide` refuses.
 */
@Injectable()
export class DomainCommandHandler {
  private readonly logger = new Logger(DomainCommandHandler.name);

  constructor(private readonly store: EventStore) {}

  async execute(command: DomainCommand): Promise<Decided> {
    for (let attempt = 1; ; attempt++) {
      // 1. Read the stream and fold it.
      const { state: before, version: expectedVersion } = await this.load(command.domainId);
      // 2. Decide.
      const events = decide(command, before);
      const state = events.reduce(evolve, before);
      const version = expectedVersion + events.length;
      if (events.length === 0) return { state, version, events };
      // 3. Append the events and the row of the read model, in one transaction.
      try {
        const { at, ...metadata } = command.context;
        await this.store.append({
          stream: command.domainId,
          expectedVersion,
          events: events.map(({ type, at: time, data }) => ({
            type,
            schemaVersion: schemaVersions[type],
            time,
            data,
          })),
          metadata,
          row: domainRow(state, version, at),
        });
        this.tell(command, version, events);
        return { state, version, events };
      } catch (error) {
        // 4. A race that was lost is decided again, on what the winner left.
        if (error instanceof UniqueViolation && error.constraint === nameReservation && command.type === 'AddDomain')
          throw new DomainRuleBroken('conflict', `${command.data.name} is taken.`);
        if (!(error instanceof WrongExpectedVersion) || attempt === attempts) throw error;
      }
    }
  }

  /** One line for what has changed: the id of a request leads through the logs of all processes. */
  private tell({ domainId: domain, context }: DomainCommand, version: number, events: readonly DomainEvent[]): void {
    const { actor, requestId, correlationId, causationId } = context;
    const failed = events.find((event) => event.type === 'ProvisioningFailed');
    this.logger.log(
      {
        ...{ domain, version, actor },
        ...{ request_id: requestId, correlation_id: correlationId, causation_id: causationId },
        ...(failed && { reason: failed.data.reason }),
      },
      events.map(({ type }) => type).join(', '),
    );
  }

  /** The state of a domain now, the version of its stream, and the event that brought it there. */
  async load(domainId: string): Promise<{ state: MailDomain; version: number; last: RecordedEvent | undefined }> {
    const recorded = await this.store.readStream(domainId);
    return {
      state: recorded.map(domainEvent).reduce(evolve, initialState),
      version: recorded.length,
      last: recorded.at(-1),
    };
  }
}

/** The event of the model in a record of the log. */
export const domainEvent = ({ type, stream, time, data }: RecordedEvent): DomainEvent =>
  ({ type, domainId: stream, at: time, data }) as DomainEvent;
