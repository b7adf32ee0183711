import { Injectable } from '@nestjs/common';
import { EventStore, type RecordedEvent } from '@app/event-store';
import { domainEvent, evolve, initialState, type DomainEvent, type Facts } from '@app/mail-domain';
import { DomainsReadModel, domainView, type DomainView } from '@app/read-model';
import { parseTime, timeForms } from '@app/runtime';
import { ApiError } from '../http/api-error';
import { domainIdForm } from './domain.dto';
import { notFound } from './domains.service';
import { presentEntry, type HistoryEntrySchema } from './history.dto';

/** Reads the past of domains from their events. A team can still read that of its deleted domains. */
@Injectable()
export class DomainHistory {
  constructor(
    private readonly store: EventStore,
    private readonly readModel: DomainsReadModel,
  ) {}

  /**
   * Reads at most `limit` entries, the oldest first, after the entry with the id `after`. It reads no other events, but
   * for the few that the sentences are about as well: a history of years has as quick a last page as first page.
   *
   * @throws {ApiError} `not_found`; `invalid_parameter` when `after` belongs to another domain.
   */
  async page(id: string, team: string, limit: number, after?: string): Promise<HistoryEntrySchema[]> {
    await this.assertOf(id, team);
    const [stream, seen] = after?.split('/') ?? [id, 0];
    if (stream !== id) throw new ApiError('invalid_parameter', '"cursor" is of another domain.', { param: 'cursor' });
    const recorded = await this.store.readStream(id, Number(seen) + 1, limit);
    let before = await this.before(id, recorded);
    return recorded.map((each) => {
      const event = domainEvent(each);
      const entry = presentEntry(each, event, before);
      if (event.type === 'DomainAdded') before = { name: event.data.name, verifiedAt: null };
      else if (event.type === 'DomainVerified') before = { ...before, verifiedAt: event.at };
      else if (event.type === 'DomainReleased') before = { ...before, status: 'released' };
      return entry;
    });
  }

  /** Gives what the sentences of a page need of the events before it. */
  private async before(id: string, page: readonly RecordedEvent[]): Promise<Facts> {
    const [first] = page;
    if (!first || first.version === 1) return { name: id, verifiedAt: null };
    const [added] = (await this.store.readStream(first.stream, 1, 1)).map(domainEvent);
    const name = added?.type === 'DomainAdded' ? added.data.name : first.stream;
    const lastOf = (type: DomainEvent['type'], ...askers: DomainEvent['type'][]) =>
      page.some((each) => (askers as string[]).includes(each.type))
        ? this.store.lastBefore(first.stream, first.version, type)
        : undefined;
    const verified = await lastOf('DomainVerified', 'DomainVerified', 'DomainReleased');
    const released = await lastOf('DomainReleased', 'DomainDeleted');
    return { name, verifiedAt: verified?.time ?? null, ...(released && { status: 'released' }) };
  }

  /**
   * Gives the domain at the end of the millisecond that `asOf` names, and that time.
   *
   * @throws {ApiError} `invalid_parameter` when `asOf` is no time or in the future; `not_found` also when the domain
   * did not exist for the team at that time.
   */
  async at(id: string, team: string, asOf: string): Promise<{ view: DomainView; at: Date }> {
    const now = new Date();
    // In a query string, an unescaped plus sign is decoded as a space.
    const at = parseTime(asOf.replace(/(:[\d.]+) (?=\d\d:?\d\d$)/, '$1+'), now);
    if (!at) throw refused(`"as_of" must be ${timeForms}.`);
    await this.assertOf(id, team);
    const recorded = await this.store.readStream(id);
    const last = new Date(recorded.at(-1)!.time);
    // The last event may have been written by a process whose clock is ahead of this one.
    if (at > now && at > last) throw refused('"as_of" is yet to come, and so nothing is known of it.');
    const later = recorded.findIndex(({ time }) => new Date(time) > at);
    const past = recorded.slice(0, later === -1 ? undefined : later);
    const view = domainView(past.map(domainEvent).reduce(evolve, initialState), past.length);
    if (!view) throw notFound(id);
    return { view, at };
  }

  /**
   * Checks whose the domain is before its events are read: the time to answer must not reveal that another team's
   * exists.
   */
  private async assertOf(id: string, team: string): Promise<void> {
    if (!domainIdForm.test(id) || !(await this.readModel.isOf(id, team))) throw notFound(id);
  }
}

const refused = (message: string) => new ApiError('invalid_parameter', message, { param: 'as_of' });
