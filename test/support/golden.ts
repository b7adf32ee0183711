import { fromLine, type EventMetadata, type KeptEvent, type RecordedEvent } from '@app/event-store';
import { domainEvent, evolve, initialState, type MailDomain } from '@app/mail-domain';
import { evolveMailbox, mailboxEvent, noMailbox, type Mailbox } from '@app/mailbox';
import { decrypt } from '@app/secret-keys';

/** How this release reads one event. */
export interface Reading {
  readonly event: string;
  /** The data in the newest version of its schema. */
  readonly data: unknown;
  /** The state after the event. */
  readonly state: MailDomain | Mailbox;
}

/** Parses the events of a golden file, which is a stream in the format of `sendmux events export`. */
export const eventsOf = (text: string): KeptEvent[] => text.trimEnd().split('\n').map(fromLine);

export const recorded = ({ data, metadata, ...kept }: KeptEvent): RecordedEvent => ({
  position: kept.position,
  stream: kept.stream,
  version: kept.version,
  type: kept.type,
  schemaVersion: kept.schemaVersion,
  time: kept.time,
  data: JSON.parse(data) as unknown,
  metadata: JSON.parse(metadata) as EventMetadata,
});

/** The key under which personal data in the golden events are encrypted. */
export const goldenKey = Buffer.alloc(32, 9);
const openGolden = (mailboxId: string, sealed: string) =>
  decrypt(goldenKey, mailboxId, Buffer.from(sealed, 'base64')).toString('utf8');

/** Gives how this release reads each event of a golden file. */
export function readLife(text: string): Reading[] {
  let [domain, mailbox]: [MailDomain, Mailbox] = [initialState, noMailbox];
  return eventsOf(text).map((kept) => {
    const { stream, type, schemaVersion } = kept;
    const isMailbox = stream.startsWith('mbx_');
    const event = isMailbox ? mailboxEvent(recorded(kept), openGolden) : domainEvent(recorded(kept));
    if ('mailboxId' in event) mailbox = evolveMailbox(mailbox, event);
    else domain = evolve(domain, event);
    return { event: `${type}.${schemaVersion}`, data: event.data, state: isMailbox ? mailbox : domain };
  });
}
