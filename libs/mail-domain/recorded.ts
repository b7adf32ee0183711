import { schemaVersions, type DomainEvent } from './events';
import { upcast, type EventVersions, type Recorded } from './upcast';

/**
 * How to read what earlier releases have recorded. Who raises a version in `schemaVersions` adds its upcaster here, and its
 * examples to test/golden.
 */
export const domainEventVersions: EventVersions = { written: schemaVersions, upcasters: {} };

/**
 * The event of the model in a record of the log, whichever release has recorded it.
 *
 * @throws {EventNotUnderstood} when a newer one has.
 */
export const domainEvent = (recorded: Recorded): DomainEvent =>
  ({
    type: recorded.type,
    domainId: recorded.stream,
    at: recorded.time,
    data: upcast(recorded, domainEventVersions),
  }) as DomainEvent;
