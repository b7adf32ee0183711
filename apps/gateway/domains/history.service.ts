import { Injectable } from '@nestjs/common';
import { EventStore, type RecordedEvent } from '@app/event-store';
import { domainEvent, evolve, initialState } from '@app/mail-domain';
import { DomainsReadModel, domainView, type DomainView } from '@app/read-model';
import { parseTime, timeForms } from '@app/runtime';
import { ApiError } from '../http/api-error';
import { domainIdForm } from './domain.dto';
import { notFound } from './domains.service';
import { presentEntry, type HistoryEntrySchema } from './history.dto';

/** What became of domains, from their events: for their team, and also when they are gone. */
@Injectable()
export class DomainHistory {
  constructor(
    private readonly store: EventStore,
    private readonly readModel: DomainsReadModel,
  ) {}

  /**
   * The oldest first, at most `limit`, after the entry of the id `after`. Each page folds the stream, as each command does.
   *
   * @throws {ApiError} `not_found`, and `invalid_parameter` when `after` is of another domain.
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
   * The domain at the end of the millisecond that `asOf` names, and that time.
   *
   * @throws {ApiError} `invalid_parameter` of what is no time or is yet to come; `not_found` also when the domain was not to be
   * seen then.
   */
  async at(id: string, team: string, asOf: string): Promise<{ view: DomainView; at: Date }> {
    const now = new Date();
    // A plus sign that nobody has escaped reaches us as a space.
    const at = parseTime(asOf.replace(/(:[\d.]+) (?=\d\d:?\d\d$)/, '$1+'), now);
    if (!at) throw refused(`"as_of" must be ${timeForms}.`);
    const recorded = await this.eventsOf(id, team);
    const last = new Date(recorded.at(-1)!.time);
    // The clock that the last event has its time of may be ahead of ours.
    if (at > now && at > last) throw refused('"as_of" is yet to come, and so nothing is known of it.');
    const later = recorded.findIndex(({ time }) => new Date(time) > at);
    const past = recorded.slice(0, later === -1 ? undefined : later);
    const view = domainView(past.map(domainEvent).reduce(evolve, initialState), past.length);
    if (!view) throw notFound(id);
    return { view, at };
  }

  /** All that there are of a domain of the team, at least one. */
  private async eventsOf(id: string, team: string): Promise<RecordedEvent[]> {
    // Whose it is comes first: nothing of a foreign stream is read, so that it takes no longer than one that never was.
    if (!domainIdForm.test(id) || !(await this.readModel.isOf(id, team))) throw notFound(id);
    return this.store.readStream(id);
  }
}

const refused = (message: string) => new ApiError('invalid_parameter', message, { param: 'as_of' });
