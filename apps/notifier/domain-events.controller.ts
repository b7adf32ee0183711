import { DomainCommandHandler } from '@app/commands';
import { EventStore } from '@app/event-store';
import { EventConsumer, type DeliveredEvent } from '@app/messaging';
import type { DomainEvent } from '@app/mail-domain';
import { OnEvent, type Delivered } from '@app/subscriptions';
import { TaskList } from '@app/tasks';
import {
  episodeOf,
  newsOf,
  newRecordsOf,
  notifierTasks,
  recoveryOf,
  type FailureTask,
  type NewsTask,
  type NewRecordsTask,
  type RecoveryTask,
} from './notices';

/** The times of news, in milliseconds. */
export class NewsTimes {
  constructor(
    /** Wait until owners are told that an ownership record is gone. */
    readonly ownershipPatienceMs: number,
  ) {}
}

type NewsEvent = Pick<DeliveredEvent, 'stream' | 'version' | 'time' | 'metadata'>;

/** The types of the events by which a domain becomes failed, and by which it is no longer. */
const failureAndItsEnds: readonly DomainEvent['type'][] = ['VerificationFailed', 'DomainVerified', 'ReceivingEnabled'];

/** Milliseconds for which the task of a failure is delayed, so that failures of the same moment share one mail. */
const gatheringMs = 500;

/**
 * Puts a task on the list for each notice to the owners: a failure, the first success after it, and new DKIM records.
 */
@EventConsumer()
export class DomainEventsController {
  constructor(
    private readonly tasks: TaskList,
    private readonly domains: DomainCommandHandler,
    private readonly store: EventStore,
    private readonly times: NewsTimes,
  ) {}

  @OnEvent('VerificationFailed')
  async putOnTheList({ stream, time, metadata, data }: Delivered<'VerificationFailed'>): Promise<void> {
    const { correlationId } = metadata;
    const { episode, failing } = data;
    const { state } = await this.domains.load(stream);
    if (state.status === 'absent') return;
    const failure: FailureTask = { domainId: stream, team: state.team, episode, at: time, correlationId, failing };
    const due = new Date(Date.now() + gatheringMs);
    await this.tasks.put(notifierTasks, episodeOf(failure), 'TellOwners', failure, due);
  }

  @OnEvent('IdentityRepaired')
  async putNewRecordsOnTheList(event: Delivered<'IdentityRepaired'>): Promise<void> {
    if (event.data.recordsChanged) await this.putNewRecords(event);
  }

  @OnEvent('IdentityMovePrepared')
  putRecordsOfMoveOnTheList(event: Delivered<'IdentityMovePrepared'>): Promise<void> {
    return this.putNewRecords(event, 'move');
  }

  @OnEvent('IdentityMoved')
  async putRecordsAfterMoveOnTheList(event: Delivered<'IdentityMoved'>): Promise<void> {
    if (event.data.mailFromChanged) await this.putNewRecords(event, 'moved');
  }

  @OnEvent('DomainVerified')
  async putRecoveryOnTheList({ stream, time, metadata }: Delivered<'DomainVerified'>): Promise<void> {
    const { correlationId } = metadata;
    const { state } = await this.domains.load(stream);
    if (state.status !== 'verified' || state.episodes === 0) return;
    const recovery: RecoveryTask = { domainId: stream, episode: state.episodes, at: time, correlationId };
    await this.tasks.put(notifierTasks, recoveryOf(recovery), 'TellOfRecovery', recovery);
  }

  @OnEvent('ExpiryAnnounced')
  putExpiryOnTheList(event: Delivered<'ExpiryAnnounced'>): Promise<void> {
    return this.putNews('expiry', event);
  }

  @OnEvent('DomainReleased')
  putReleaseOnTheList(event: Delivered<'DomainReleased'>): Promise<void> {
    return this.putNews('released', event);
  }

  /** The owners are told when the next cycle has not found it again: a record that is lost for a moment is no news. */
  @OnEvent('DnsChecked')
  async putLostOwnershipOnTheList(event: Delivered<'DnsChecked'>): Promise<void> {
    if (!event.data.beginsGrace) return;
    // A look that fails the domain besides is told of by the mail about that failure, and the state has it already.
    const [newest] = await this.store.newestOf([{ stream: event.stream, below: event.version }], failureAndItsEnds);
    const due = new Date(Date.parse(event.time) + this.times.ownershipPatienceMs);
    await this.putNews('ownership_gone', event, due, { hadFailed: newest?.type === 'VerificationFailed' });
  }

  private async putNewRecords(event: NewsEvent, because?: NewRecordsTask['because']): Promise<void> {
    const { stream, version, time, metadata } = event;
    const { correlationId } = metadata;
    const change: NewRecordsTask = {
      domainId: stream,
      version,
      at: time,
      correlationId,
      ...(because && { because }),
    };
    await this.tasks.put(notifierTasks, newRecordsOf(change), 'TellOfNewRecords', change);
  }

  private async putNews(
    about: NewsTask['about'],
    event: NewsEvent,
    due?: Date,
    more: Pick<NewsTask, 'hadFailed'> = {},
  ): Promise<void> {
    const { stream, version, time, metadata } = event;
    const news: NewsTask = {
      domainId: stream,
      about,
      version,
      at: time,
      correlationId: metadata.correlationId,
      ...more,
    };
    await this.tasks.put(notifierTasks, newsOf(news), 'TellNews', news, due);
  }
}
