import type { DomainCommandHandler } from '@app/commands';
import { isLive, type LiveDomain } from '@app/mail-domain';
import { dnsRecords } from '@app/mail-records';
import type { TaskOutcome } from '@app/tasks';
import { recipientOf, type Deliveries } from './deliveries';
import { failureMail, type Failure } from './failure-mail';
import { nameMail } from './name-mail';
import { newRecordsMail, type NewRecord } from './new-records-mail';
import {
  episodeOf,
  newRecordsOf,
  newsOf,
  recoveryOf,
  type FailureTask,
  type NewRecordsTask,
  type NewsTask,
  type RecoveryTask,
} from './notices';
import type { MailedNotice, OwnerMailer } from './owner-mailer';
import { recoveryMail } from './recovery-mail';
import type { TeamFailures } from './team-failures';
import { teamFailureMail } from './team-failure-mail';

/** Milliseconds until a task is tried again that depends on a failure that is not settled yet. */
const failureFirstMs = 2_000;

/** Milliseconds after which it is checked again, at the latest, whether more domains of a team fail. */
const longestWaitMs = 60_000;

/** Milliseconds until a mail without a usable sender is tried again: only an operator can change that. */
const noSenderRetryMs = 600_000;

interface FailureNotice extends MailedNotice {
  readonly task: FailureTask;
  readonly failure: Failure;
}

/** The parts and the limit by which the mail about a failure waits for other failures of its team. */
export interface Gathering {
  readonly failures: Pick<TeamFailures, 'areComing' | 'waiting' | 'alone'>;
  /**
   * Longest wait from the first failure, in milliseconds. It is one cycle: failures of one outage all happen within it.
   */
  readonly withinMs: number;
}

/**
 * Decides which mails the owners of a team get about their domains, and when: failures, recoveries and new DKIM
 * records.
 */
export class Notifier {
  constructor(
    private readonly domains: Pick<DomainCommandHandler, 'load'>,
    private readonly deliveries: Pick<Deliveries, 'isSettled' | 'told'>,
    private readonly mailer: OwnerMailer,
    private readonly gathering: Gathering,
    /** How long the ownership record of a verified domain has to be gone before it can be claimed, in milliseconds. */
    private readonly graceMs: number,
  ) {}

  /**
   * Mails a failure together with the other failures of the team, since an outage of its DNS provider fails all of its
   * domains within one cycle. A domain that was verified again or deleted is left out: the mail would be out of date. A
   * team without owners causes an alarm, and its notice is settled.
   */
  async tell(failure: FailureTask, signal: AbortSignal): Promise<TaskOutcome> {
    const { failures, withinMs } = this.gathering;
    const { team } = failure;
    if (team === undefined) return this.tellTogether([failure], signal);
    if (await this.deliveries.isSettled(episodeOf(failure))) return 'done';
    const waitedMs = Date.now() - Date.parse(failure.at);
    if (waitedMs < withinMs && (await failures.areComing(team, failure.at)))
      return { retryInMs: Math.min(withinMs / 20, longestWaitMs), error: 'Waits for what else of its team fails' };
    const outcome = await failures.alone(team, async (lost) => {
      const others = (await failures.waiting(team)).filter((other) => episodeOf(other) !== episodeOf(failure));
      return this.tellTogether([failure, ...others], AbortSignal.any([signal, lost]));
    });
    return outcome ?? { retryInMs: failureFirstMs, error: 'Another failure of the team is being told' };
  }

  private async tellTogether(failures: readonly FailureTask[], signal: AbortSignal): Promise<TaskOutcome> {
    const { team, items } = await this.stillFailing(failures);
    if (items.length === 0) return 'done';
    const names = items.map(({ failure }) => failure.name);
    const owners = await this.mailer.owners(team);
    if (owners.length === 0) {
      this.mailer.alarm('no_owners', `${team} has no owners: nobody was told that ${names.join(', ')} has failed`);
      for (const { task, key } of items) await this.mailer.settle(task, key, 'no_owners');
      return 'done';
    }
    const { from, isConfigured } = this.mailer.sender(names);
    if (!isConfigured)
      this.mailer.alarm(
        'sender_on_failing_domain',
        `NOTIFY_FROM lies in ${names.join(', ')}, which has failed: set another`,
      );
    if (!from) return noSender(names);
    const mail = (of: readonly FailureNotice[]) =>
      of.length === 1 ? failureMail(of[0]!.failure) : teamFailureMail(of.map(({ failure }) => failure));
    return this.mailer.send({ items, team, owners, from, mail }, signal);
  }

  /** Gives the failures that still need a mail, and settles those that are over. */
  private async stillFailing(
    failures: readonly FailureTask[],
  ): Promise<{ readonly team: string; readonly items: readonly FailureNotice[] }> {
    const items: FailureNotice[] = [];
    let team = '';
    for (const task of failures) {
      const key = episodeOf(task);
      if (await this.deliveries.isSettled(key)) continue;
      const { state } = await this.domains.load(task.domainId);
      const notice = { task, key, about: 'failure', notice: task.episode } as const;
      if (state.status !== 'failed' || state.episodes !== task.episode) {
        // Some owners may have had the mail before the failure was over.
        await this.mailer.recordTold(notice);
        await this.mailer.settle(task, key, 'superseded');
        continue;
      }
      team = state.team;
      // The findings of a later look, such as one that a customer requested, do not belong to this failure.
      const findings = state.checkedAt === task.at ? (state.lastAssessment?.findings ?? []) : [];
      const unjudged = findings.filter(({ outcome }) => outcome === 'indeterminate');
      const { ownershipGoneSince: since } = state;
      const claimableFrom = since && new Date(Date.parse(since) + this.graceMs).toISOString();
      items.push({ ...notice, failure: { ...task, name: state.name, unjudged, claimableFrom } });
    }
    return { team, items };
  }

  /** Mails a recovery once, to those owners only who had the mail about the failure. */
  async tellOfRecovery(recovery: RecoveryTask, signal: AbortSignal): Promise<TaskOutcome> {
    const key = recoveryOf(recovery);
    if (await this.deliveries.isSettled(key)) return 'done';
    const failure = episodeOf(recovery);
    if (!(await this.deliveries.isSettled(failure)))
      return { retryInMs: failureFirstMs, error: 'The failure is still to be dealt with' };
    const { state } = await this.domains.load(recovery.domainId);
    const told = await this.deliveries.told(failure);
    if (state.status !== 'verified' || state.episodes !== recovery.episode || told.size === 0)
      return this.mailer.settle(recovery, key, 'superseded');
    const owners = (await this.mailer.owners(state.team)).filter((address) => told.has(recipientOf(address)));
    const { from } = this.mailer.sender([state.name]);
    if (!from) return noSender([state.name]);
    const mail = () => recoveryMail({ name: state.name, at: recovery.at });
    const item = { task: recovery, key, about: 'recovery', notice: recovery.episode } as const;
    return this.mailer.send({ items: [item], team: state.team, owners, from, mail }, signal);
  }

  /** Mails every owner what is news about the name of a domain, unless it is true no more. */
  async tellNews(news: NewsTask, signal: AbortSignal): Promise<TaskOutcome> {
    const key = newsOf(news);
    const { about, domainId, version } = news;
    if (await this.deliveries.isSettled(key)) return 'done';
    const { state } = await this.domains.load(domainId);
    // The mail about the failure says it too, and comes within a cycle where the domain had not failed before.
    if (about === 'ownership_gone' && news.hadFailed === false) {
      if (state.status === 'failed') return this.mailer.settle(news, key, 'superseded');
      if (state.status === 'pending' && Date.now() < this.latestAbout(news))
        return { retryInMs: failureFirstMs, error: 'Waits whether the domain fails' };
    }
    const mail = nameMail(news, state, this.graceMs);
    if (!mail) return this.mailer.settle(news, key, 'superseded');
    const { name, team } = mail;
    const owners = await this.mailer.owners(team);
    if (owners.length === 0) {
      this.mailer.alarm('no_owners', `${team} has no owners: nobody was told of ${name} (${about})`);
      return this.mailer.settle(news, key, 'no_owners');
    }
    const { from } = this.mailer.sender([name]);
    if (!from) return noSender([name]);
    const item = { task: news, key, about, notice: version } as const;
    return this.mailer.send({ items: [item], team, owners, from, mail: () => mail.written }, signal);
  }

  /** Gives when owners are told at the latest that an ownership record is gone, as a time in milliseconds. */
  private latestAbout({ at }: NewsTask): number {
    return Date.parse(at) + Math.min(3 * this.gathering.withinMs, (this.graceMs * 3) / 4);
  }

  /** Mails every owner the DKIM records that replace those that he was given before. */
  async tellOfNewRecords(change: NewRecordsTask, signal: AbortSignal): Promise<TaskOutcome> {
    const key = newRecordsOf(change);
    if (await this.deliveries.isSettled(key)) return 'done';
    const { state } = await this.domains.load(change.domainId);
    if (!isLive(state)) return this.mailer.settle(change, key, 'superseded');
    const { name, team } = state;
    const owners = await this.mailer.owners(team);
    if (owners.length === 0) {
      this.mailer.alarm('no_owners', `${team} has no owners: nobody was told of the new DKIM records of ${name}`);
      return this.mailer.settle(change, key, 'no_owners');
    }
    // Mail of this domain is not signed until the records are placed, so a sender of another domain is preferred.
    const { from } = this.mailer.sender([name]);
    if (!from) return noSender([name]);
    const records = recordsOf(change.because, state);
    // A move that has gone on or ended by now asks for other records, of which another notice tells.
    if (records.length === 0) return this.mailer.settle(change, key, 'superseded');
    const mail = () => newRecordsMail({ name, at: change.at, records, because: change.because });
    const item = { task: change, key, about: 'new_records', notice: change.version } as const;
    return this.mailer.send({ items: [item], team, owners, from, mail }, signal);
  }
}

/** Gives the records that owners are told of; none where the domain does not want them any more. */
function recordsOf(because: NewRecordsTask['because'], state: LiveDomain): NewRecord[] {
  const { dkim, mail_from } = dnsRecords(state);
  if (because === undefined) return dkim.map(({ name, value }) => ({ name, type: 'CNAME', value }));
  if (because === 'moved') {
    const { name, priority, target } = mail_from.mx;
    return [{ name, type: 'MX', value: `${priority} ${target}` }];
  }
  const isNew = new Set(state.nextDkim?.dkimTokens);
  return dkim
    .filter(({ name }) => isNew.has(name.split('.', 1)[0]!))
    .map(({ name, value }) => ({ name, type: 'CNAME', value }));
}

const noSender = (names: readonly string[]): TaskOutcome => ({
  retryInMs: noSenderRetryMs,
  error: `No sender outside ${names.join(', ')}`,
});
