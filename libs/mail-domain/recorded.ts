import { upcast, type EventVersions, type Recorded, type Upcaster } from '@app/decider';
import { schemaVersions, type DomainEvent } from './events';
import { withoutWordsOfOthers } from './provisioning-failure';

/**
 * Lifts data with a closed list of names to a version with an open list. The data stay the same, as the old names
 * remain valid.
 */
const nowOpen: Upcaster = (data) => data;

/**
 * Reads the events that earlier releases recorded. A new version in `schemaVersions` needs its upcaster here and its
 * examples in test/golden.
 */
export const domainEventVersions: EventVersions = {
  written: schemaVersions,
  upcasters: {
    DnsChecked: { 1: nowOpen },
    VerificationLapsed: { 1: nowOpen },
    VerificationFailed: { 1: nowOpen },
    IdentityRepairRequested: { 1: nowOpen },
    OwnersTold: { 1: nowOpen },
  },
};

/**
 * Gives the event of the model for a record of the log, whichever release recorded it.
 *
 * @throws {EventNotUnderstood} when a newer release recorded it.
 */
export function domainEvent(recorded: Recorded): DomainEvent {
  const { type, stream, time } = recorded;
  const event = { type, domainId: stream, at: time, data: upcast(recorded, domainEventVersions) } as DomainEvent;
  return event.type === 'ProvisioningFailed' ? Object.assign(event, { data: withoutWordsOfOthers(event.data) }) : event;
}
