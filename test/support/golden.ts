import type { EventMetadata, KeptEvent, RecordedEvent } from '@app/event-store';
import { domainEvent, evolve, initialState, type MailDomain } from '@app/mail-domain';
import { evolveMailbox, mailboxEvent, noMailbox, type Mailbox } from '@app/mailbox';
import { fromLine } from '@app/messaging';

/** What this release makes of one event. */
export interface Reading {
  readonly event: string;
  /** As a release of now would record it. */
  readonly data: unknown;
  /** After it. */
  readonly state: MailDomain | Mailbox;
}

/** The events of a golden file, which is a stream as `sendmux events export` writes it. */
export const eventsOf = (text: string): KeptEvent[] => text.trimEnd().split('\n').map(fromLine);

export const recorded = ({ data, metadata, ...kept }: KeptEvent): RecordedEvent => ({
  ...{ position: kept.position, stream: kept.stream, version: kept.version, type: kept.type },
  ...{ schemaVersion: kept.schemaVersion, time: kept.time },
  ...{ data: JSON.parse(data) as unknown, metadata: JSON.parse(metadata) as EventMetadata },
});

/** What this release makes of the events of a golden file, one after the other. */
export function readLife(text: string): Reading[] {
  let [domain, mailbox]: [MailDomain, Mailbox] = [initialState, noMailbox];
  return eventsOf(text).map((kept) => {
    const { stream, type, schemaVersion } = kept;
    const isMailbox = stream.startsWith('mbx_');
    const event = isMailbox ? mailboxEvent(recorded(kept)) : domainEvent(recorded(kept));
    if ('mailboxId' in event) mailbox = evolveMailbox(mailbox, event);
    else domain = evolve(domain, event);
    return { event: `${type}.${schemaVersion}`, data: event.data, state: isMailbox ? mailbox : domain };
  });
}
