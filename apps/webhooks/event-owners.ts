import type { EventStore } from '@app/event-store';
import { domainEvent } from '@app/mail-domain';
import { storedMailboxEvent } from '@app/mailbox';

/** Whose a stream is, which never changes. */
export interface EventOwner {
  readonly team: string;
  /** The id of the domain that the stream is about, or that its mailbox belongs to; null for a mailbox without one. */
  readonly domain: string | null;
}

/** Streams that are remembered. */
const most = 20_000;

/** Knows whose a stream is, by its first event. */
export class EventOwners {
  private readonly known = new Map<string, EventOwner>();
  private asked: { readonly streams: Set<string>; readonly read: Promise<void> } | undefined;

  constructor(private readonly store: Pick<EventStore, 'readStreams'>) {}

  /** Gives the owner of a stream. What is asked for in one turn shares a query. @throws {Error} for no such stream. */
  async of(stream: string): Promise<EventOwner> {
    const known = this.known.get(stream);
    if (known) return known;
    if (!this.asked) {
      const streams = new Set<string>();
      const read = Promise.resolve().then(() => {
        this.asked = undefined;
        return this.read([...streams]);
      });
      this.asked = { streams, read };
    }
    this.asked.streams.add(stream);
    await this.asked.read;
    const owner = this.known.get(stream);
    if (!owner) throw new Error(`${stream} has no first event that says whose it is.`);
    return owner;
  }

  private async read(streams: readonly string[]): Promise<void> {
    for (const oldest of this.known.keys()) {
      if (this.known.size + streams.length <= most) break;
      this.known.delete(oldest);
    }
    const parts = streams.map((stream) => ({ stream, first: 1, last: 1 }));
    for (const event of await this.store.readStreams(parts, parts.length)) {
      if (event.stream.startsWith('mbx_')) {
        const { type, data } = storedMailboxEvent(event);
        if (type === 'MailboxCreated') this.known.set(event.stream, { team: data.team, domain: data.domainId ?? null });
      } else {
        const { type, data } = domainEvent(event);
        if (type === 'DomainAdded') this.known.set(event.stream, { team: data.team, domain: event.stream });
      }
    }
  }
}
