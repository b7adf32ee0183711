import { upcast, type EventVersions, type Recorded } from '@app/decider';
import { mailboxSchemaVersions, type StoredMailboxEvent } from './events';
import { decrypted, unencrypted, type MailboxEvent, type OpenSealed } from './personal-data';

/**
 * Says how to read what earlier releases have recorded. A new version in `mailboxSchemaVersions` needs an upcaster
 * here, and examples in test/golden.
 */
export const mailboxEventVersions: EventVersions = {
  written: mailboxSchemaVersions,
  upcasters: {
    // Personal data were not encrypted.
    MailboxCreated: {
      1: ({ address, ...rest }: { address: string }) => ({ sealed: unencrypted({ address }), ...rest }),
    },
    DisplayNameChanged: {
      1: ({ displayName }: { displayName: string | null }) => ({ sealed: unencrypted({ displayName }) }),
    },
  },
};

/**
 * Reads a recorded event as it would be stored today, whichever release has recorded it. Takes no key.
 *
 * @throws {EventNotUnderstood} when a newer release has recorded it.
 */
export const storedMailboxEvent = (recorded: Recorded): StoredMailboxEvent =>
  ({
    type: recorded.type,
    mailboxId: recorded.stream,
    at: recorded.time,
    data: upcast(recorded, mailboxEventVersions),
  }) as StoredMailboxEvent;

/**
 * Reads a recorded event as an event of the model, whichever release has recorded it.
 *
 * @throws {EventNotUnderstood} when a newer release has recorded it; and whatever `open` throws.
 */
export const mailboxEvent = (recorded: Recorded, open: OpenSealed): MailboxEvent =>
  decrypted(storedMailboxEvent(recorded), open);
