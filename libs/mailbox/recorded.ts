import { upcast, type EventVersions, type Recorded } from '@app/mail-domain';
import { mailboxSchemaVersions, type MailboxEvent } from './events';

/**
 * How to read what earlier releases have recorded. Who raises a version in `mailboxSchemaVersions` adds its upcaster here, and
 * its examples to test/golden.
 */
export const mailboxEventVersions: EventVersions = { written: mailboxSchemaVersions, upcasters: {} };

/**
 * The event of the model in a record of the log, whichever release has recorded it.
 *
 * @throws {EventNotUnderstood} when a newer one has.
 */
export const mailboxEvent = (recorded: Recorded): MailboxEvent =>
  ({
    type: recorded.type,
    mailboxId: recorded.stream,
    at: recorded.time,
    data: upcast(recorded, mailboxEventVersions),
  }) as MailboxEvent;
