import { eventId, eventSource, EventStore, sequenceOf, type RecordedEvent } from '@app/event-store';
import { domainEvent, evolve, initialState, type DomainEvent, type MailDomain } from '@app/mail-domain';
import { evolveMailbox, mailboxEvent, noMailbox, type Mailbox, type OpenSealed } from '@app/mailbox';
import type { MailboxKeys } from '@app/mailbox-keys';
import { domainView, MailboxesReadModel, mailboxView, type DomainView } from '@app/read-model';
import { testType, type WebhookType } from '@app/webhooks';
import type { Pool } from 'pg';
import { presentDomain, recordsToRemove } from './domain';
import { presentMailbox } from './mailbox';
import { dependsOnStatus, statusAfter, webhookTypeOf } from './webhook-types';

/** A message whose body is wanted. */
export interface WantedMessage {
  /** The id of the event that it tells of, such as `mdom_…/12`. */
  readonly message: string;
  readonly type: WebhookType;
  /** `rpl_…` in a replay. */
  readonly replayId?: string | undefined;
}

/** The most events that one query reads. */
const pageSize = 2_000;
/** Streams whose last folded state is kept, so that the next message of the stream reads only what is new. */
const mostStates = 1_000;
/** Octets of the bodies that are kept, for other endpoints and further tries. */
const keptOctets = 8 * 1_024 * 1_024;
/** The most events that are decided together with the creation of a mailbox: its provider and its display name. */
const mailboxLookahead = 2;

/** Gives the body of the message that tries an endpoint: a CloudEvent without a domain or a mailbox. */
export const testBody = (of: {
  /** `msg_…` */
  readonly message: string;
  /** The id of the endpoint. */
  readonly webhook: string;
  readonly team: string;
  readonly time: Date;
}): Buffer =>
  made(attributes(of.message, testType, of.webhook, of.time.toISOString()), { team: of.team, webhook: of.webhook })
    .body;

/**
 * Makes the bodies of messages from the log, when they are sent: each shows the domain or the mailbox as it was right
 * after the event. A body is the same whenever it is made, since events never change, but for the personal data of a
 * mailbox: they are empty once they are erased. So nothing about mailboxes is kept in memory.
 */
export class WebhookMessages {
  private readonly store: EventStore;
  private readonly mailboxes: MailboxesReadModel;
  private readonly states = new Map<string, Folded>();
  private readonly made = new Map<string, Made>();
  private octets = 0;
  /** The events of the next query for types. */
  private asked: { readonly events: AskedEvent[]; readonly before: Promise<(RecordedEvent | undefined)[]> } | undefined;

  constructor(
    pool: Pool,
    private readonly keys: MailboxKeys,
  ) {
    this.store = new EventStore(pool);
    this.mailboxes = new MailboxesReadModel(pool);
  }

  /**
   * Gives the type of the message that tells of an event, as `webhookTypeOf`. What is asked for in one turn shares a
   * query.
   */
  async typeOf(event: AskedEvent): Promise<WebhookType | undefined> {
    if (!dependsOnStatus.has(event.type)) return webhookTypeOf(event, undefined);
    if (!this.asked) {
      const events: AskedEvent[] = [];
      const before = Promise.resolve().then(() => {
        this.asked = undefined;
        const asked = events.map(({ stream, version }) => ({ stream, below: version }));
        return this.store.newestOf(asked, Object.keys(statusAfter));
      });
      this.asked = { events, before };
    }
    const nth = this.asked.events.push(event) - 1;
    const before = (await this.asked.before)[nth];
    return webhookTypeOf(event, before && statusAfter[before.type]);
  }

  /**
   * Makes the bodies of messages, each a CloudEvent in structured JSON. A message whose events only a newer release
   * understands is left out: that release can send it.
   *
   * @param messages each id once.
   * @returns the body by the id of the message.
   */
  async bodies(messages: readonly WantedMessage[]): Promise<ReadonlyMap<string, Buffer>> {
    const all = new Map<string, Made>();
    const missing: WantedMessage[] = [];
    for (const wanted of messages) {
      const known = this.known(wanted.message);
      if (known) all.set(wanted.message, known);
      else missing.push(wanted);
    }
    for (const [message, one] of missing.length > 0 ? await this.make(missing) : []) {
      all.set(message, one);
      this.keep(message, one);
    }
    const bodies = new Map<string, Buffer>();
    for (const { message, replayId } of messages) {
      const one = all.get(message);
      if (one) bodies.set(message, replayId === undefined ? one.body : replayed(one, replayId));
    }
    return bodies;
  }

  private async make(wanted: readonly WantedMessage[]): Promise<Map<string, Made>> {
    const typeOf = new Map(wanted.map(({ message, type }) => [message, type]));
    const moments = await this.moments(wanted.map(({ message }) => message));
    const [domains, mailboxes] = [moments.filter(isOfDomain), moments.filter(isOfMailbox)];
    const [counts, providers] = await Promise.all([
      this.mailboxes.activeAt(
        domains.map(({ event, position }) => ({ domainId: event.stream, position, time: event.time })),
      ),
      this.providersOf(mailboxes),
    ]);
    const data = [
      ...domains.map((moment, i) => [moment.event, domainData(moment, counts[i]!)] as const),
      ...mailboxes.map((moment, i) => [moment.event, mailboxData(moment, providers[i]!)] as const),
    ];
    return new Map(
      data.flatMap(([event, each]): [string, Made][] => {
        const message = eventId(event);
        const head = attributes(message, typeOf.get(message)!, event.stream, event.time, event.position);
        return each ? [[message, made(head, each)]] : [];
      }),
    );
  }

  /** Gives the providers that the domains of mailboxes had chosen; null where there is none. */
  private async providersOf(moments: readonly Moment<Mailbox>[]): Promise<(string | null)[]> {
    const homes = moments.map(({ state }) => ('domainId' in state ? state.domainId : null));
    const asked = moments.flatMap(({ position }, i) => (homes[i] ? [{ stream: homes[i], upTo: position }] : []));
    const types: DomainEvent['type'][] = ['DomainOutboundProviderChosen', 'DomainDeleted'];
    const found = asked.length > 0 ? await this.store.newestOf(asked, types) : [];
    return homes.map((home) => {
      const chosen = home === null ? undefined : found.shift();
      const event = chosen && domainEvent(chosen);
      return event?.type === 'DomainOutboundProviderChosen' ? event.data.provider : null;
    });
  }

  /** Folds the streams of messages up to each of them. */
  private async moments(messages: readonly string[]): Promise<Moment[]> {
    const versions = new Map<string, number[]>();
    for (const message of messages) {
      const [stream = '', version] = message.split('/');
      versions.set(stream, [...(versions.get(stream) ?? []), Number(version)]);
    }
    const foldings = new Map(
      [...versions].map(([stream, wanted]) => [stream, new Folding(stream, wanted, this.states.get(stream))]),
    );
    for (let parts = [...foldings.values()].map(({ part }) => part); parts.length > 0;) {
      const events = await this.store.readStreams(parts, pageSize);
      const open = await this.keys.openerOf(events);
      for (const event of events) foldings.get(event.stream)!.take(event, open);
      if (events.length < pageSize) break;
      const { stream, version } = events.at(-1)!;
      const at = parts.findIndex((part) => part.stream === stream);
      const rest = { ...parts[at]!, first: version + 1 };
      parts = [...(rest.first <= rest.last ? [rest] : []), ...parts.slice(at + 1)];
    }
    for (const [stream, { folded }] of foldings) {
      this.states.delete(stream);
      if (folded.version > 0 && !isMailbox(stream)) this.states.set(stream, folded);
    }
    dropOldest(this.states, (states) => states.size > mostStates);
    return [...foldings.values()].flatMap(({ moments }) => moments);
  }

  private known(message: string): Made | undefined {
    const known = this.made.get(message);
    if (!known) return undefined;
    this.made.delete(message);
    this.made.set(message, known);
    return known;
  }

  private keep(message: string, one: Made): void {
    if (this.made.has(message) || isMailbox(message)) return;
    this.made.set(message, one);
    this.octets += one.body.length;
    dropOldest(
      this.made,
      () => this.octets > keptOctets,
      (dropped) => (this.octets -= dropped.body.length),
    );
  }
}

type AskedEvent = Pick<RecordedEvent, 'stream' | 'version' | 'type' | 'data'>;

/** A body without the mark of a replay. It is kept as octets, which lie outside of the heap that is collected. */
interface Made {
  readonly body: Buffer;
  /** Octets before the place of the mark. */
  readonly head: number;
}

/** @param head the attributes, as JSON. */
const made = (head: string, data: object): Made => ({
  body: ownOctets(`${head.slice(0, -1)},"data":${JSON.stringify(data)}}`),
  head: Buffer.byteLength(head) - 1,
});

/**
 * Gives the octets of a text in memory of their own. `Buffer.from` takes a part of a block that Node shares among small
 * buffers (64 KiB in Node 26): each body that is kept would keep a whole block, and all of them many times what they
 * are counted as.
 */
function ownOctets(text: string): Buffer {
  const octets = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
  octets.write(text);
  return octets;
}

const replayed = ({ body, head }: Made, replayId: string): Buffer =>
  Buffer.concat([body.subarray(0, head), Buffer.from(`,"replayid":${JSON.stringify(replayId)}`), body.subarray(head)]);

/** Gives the context attributes (CloudEvents 1.0, section 3), as JSON. */
const attributes = (id: string, type: string, subject: string, time: string, position?: number): string =>
  JSON.stringify({
    specversion: '1.0',
    id,
    source: eventSource,
    type,
    subject,
    time,
    datacontenttype: 'application/json',
    ...(position !== undefined && { sequence: sequenceOf(position) }),
  });

/** A stream at an event; at the creation of a mailbox, after what was decided together with it. */
interface Moment<State = MailDomain | Mailbox> {
  readonly event: RecordedEvent;
  /** The state that the event was decided on. */
  readonly before: State;
  state: State;
  version: number;
  position: number;
}

interface Folded {
  readonly state: MailDomain | Mailbox;
  readonly version: number;
}

const isMailbox = (stream: string): boolean => stream.startsWith('mbx_');
const isOfMailbox = (moment: Moment): moment is Moment<Mailbox> => isMailbox(moment.event.stream);
const isOfDomain = (moment: Moment): moment is Moment<MailDomain> => !isOfMailbox(moment);

/** Folds a stream, and notes each moment that is wanted. */
class Folding {
  readonly moments: Moment[] = [];
  /** The newest state at a wanted version, or before it. */
  folded: Folded;
  private state: MailDomain | Mailbox;
  private readonly wanted: ReadonlySet<number>;
  private readonly last: number;
  private hasFailed = false;

  /** @param known a state to begin with, where it comes before everything that is wanted. */
  constructor(
    private readonly stream: string,
    wanted: readonly number[],
    known: Folded | undefined,
  ) {
    this.wanted = new Set(wanted);
    this.last = Math.max(...wanted);
    const none = { state: isMailbox(stream) ? noMailbox : initialState, version: 0 };
    this.folded = known && known.version < Math.min(...wanted) ? known : none;
    this.state = this.folded.state;
  }

  get part() {
    const last = this.last + (isMailbox(this.stream) ? mailboxLookahead : 0);
    return { stream: this.stream, first: this.folded.version + 1, last };
  }

  /** Takes the next event. Once one is not understood, nothing comes of those after it. */
  take(event: RecordedEvent, openSealed: OpenSealed): void {
    if (this.hasFailed) return;
    const before = this.state;
    try {
      this.state = isMailbox(event.stream)
        ? evolveMailbox(before as Mailbox, mailboxEvent(event, openSealed))
        : evolve(before as MailDomain, domainEvent(event));
    } catch {
      this.hasFailed = true;
      return;
    }
    const { version, position } = event;
    const now = { state: this.state, version, position };
    const open = this.moments.at(-1);
    if (open?.event.type === 'MailboxCreated' && isTogether(open.event, event)) Object.assign(open, now);
    if (this.wanted.has(version)) this.moments.push({ event, before, ...now });
    if (version <= this.last) this.folded = { state: this.state, version };
  }
}

/** Tells whether two events of a stream come from one decision, so that nobody has seen the state between them. */
const isTogether = (a: RecordedEvent, b: RecordedEvent): boolean =>
  a.time === b.time && JSON.stringify(a.metadata) === JSON.stringify(b.metadata);

/** Gives the data of a message about a domain; undefined where it was not one that customers see. */
function domainData({ event: recorded, before, state, version }: Moment<MailDomain>, mailboxCount: number) {
  const event = domainEvent(recorded);
  const isDeleted = event.type === 'DomainDeleted';
  const seen = isDeleted && 'dkimTokens' in before ? { ...before, status: 'deleting' as const } : state;
  const view = domainView(seen, version);
  if (!view) return undefined;
  return {
    team: view.team,
    domain: presentDomain({ ...view, mailboxCount }, timesOf(view)),
    ...(isDeleted && { records_to_remove: recordsToRemove(view) }),
    ...('failing' in event.data && { failing: event.data.failing.map(({ check, code }) => ({ check, code })) }),
  };
}

/** Gives the times of checks as a read with `as_of` does: the log has the last look, and not when the next one is. */
const timesOf = ({ checkedAt }: DomainView) => ({ lastCheckedAt: checkedAt, nextCheckAt: null });

function mailboxData({ state, version }: Moment<Mailbox>, domainProvider: string | null) {
  const view = mailboxView(state, version, domainProvider);
  return view && { team: view.team, mailbox: presentMailbox(view) };
}

/** Removes entries, those that were put in first, for as long as it is too much. */
function dropOldest<Value>(
  map: Map<string, Value>,
  isTooMuch: (map: Map<string, Value>) => boolean,
  dropped?: (value: Value) => void,
): void {
  for (const [key, value] of map) {
    if (!isTooMuch(map)) return;
    map.delete(key);
    dropped?.(value);
  }
}
