import { upcast, type EventVersions, type Recorded } from '@app/decider';
import { mailboxSchemaVersions, type MailboxEvent } from './events';

/**
 * Says how to read what earlier releases have recorded. A new version in `mailboxSchemaVersions` needs an upcaster
 * here, and examples in test/golden.
 */
export const mailboxEventVersions: EventVersions = { written: mailboxSchemaVersions, upcasters: {} };

/**
 * Reads a recorded event as an event of the model, whichever release has recorded it.
 *
 * @throws {EventNotUnderstood} when a newer release has recorded it.
 */
export const mailboxEvent = (recorded: Recorded): MailboxEvent =>
  ({
    type: recorded.type,
    mailboxId: recorded.stream,
    at: recorded.time,
    data: upcast(recorded, mailboxEventVersions),
  }) as MailboxEvent;
