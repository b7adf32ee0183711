import { Injectable } from '@nestjs/common';
import { EventStore, type RecordedEvent } from '@app/event-store';
import { domainEvent, evolve, initialState } from '@app/mail-domain';
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
   * Reads at most `limit` entries, the oldest first, after the entry with the id `after`. Each page folds the whole
   * stream, as each command does.
   *
   * @throws {ApiError} `not_found`; `invalid_parameter` when `after` belongs to another domain.
   */
  async page(id: string, team: string, limit: number, after?: string): Promise<HistoryEntrySchema[]> {
    const recorded = await this.eventsOf(id, team);
    const [stream, seen] = after?.split('/') ?? [id, 0];
    if (stream !== id) throw new ApiError('invalid_parameter', '"cursor" is of another domain.', { param: 'cursor' });
    const entries: HistoryEntrySchema[] = [];
    let state = initialState;
    for (const each of recorded) {
      if (entries.length === limit) break;
      const event = domainEvent(each);
      if (each.version > Number(seen)) entries.push(presentEntry(each, event, state));
      state = evolve(state, event);
    }
    return entries;
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
    const recorded = await this.eventsOf(id, team);
    const last = new Date(recorded.at(-1)!.time);
    // The last event may have been written by a process whose clock is ahead of this one.
    if (at > now && at > last) throw refused('"as_of" is yet to come, and so nothing is known of it.');
    const later = recorded.findIndex(({ time }) => new Date(time) > at);
    const past = recorded.slice(0, later === -1 ? undefined : later);
    const view = domainView(past.map(domainEvent).reduce(evolve, initialState), past.length);
    if (!view) throw notFound(id);
    return { view, at };
  }

  /** Reads all events of a domain of the team; at least one. */
  private async eventsOf(id: string, team: string): Promise<RecordedEvent[]> {
    // The owner is checked first, and another team's stream is never read: the time to answer must not reveal that it
    // exists.
    if (!domainIdForm.test(id) || !(await this.readModel.isOf(id, team))) throw notFound(id);
    return this.store.readStream(id);
  }
}

const refused = (message: string) => new ApiError('invalid_parameter', message, { param: 'as_of' });
