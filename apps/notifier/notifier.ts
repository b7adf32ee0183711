import { createHash } from 'node:crypto';
import { Logger } from '@nestjs/common';
import { AccountRuleBroken, type Accounts } from '@app/accounts';
import type { DomainCommandHandler } from '@app/commands';
import { dnsRecords, isLive, RecordOwnersTold, type Finding, type Notice } from '@app/mail-domain';
import type { TaskOutcome } from '@app/tasks';
import type { Transporter } from 'nodemailer';
import { Counter } from 'prom-client';
import { recipientOf, type Deliveries } from './deliveries';
import { failureMail, type Failure, type FailureMail } from './failure-mail';
import { newRecordsMail } from './new-records-mail';
import { recoveryMail } from './recovery-mail';
import { senderDomain, senderFor } from './sender';
import type { TeamFailures } from './team-failures';
import { teamFailureMail } from './team-failure-mail';

export const notifierTasks = 'notifier';

/** One failure of one domain, as its event tells it. */
export interface FailureTask {
  readonly domainId: string;
  /** Whose domain it is; tasks of earlier builds have none, and are told by themselves. */
  readonly team?: string;
  readonly episode: number;
  readonly at: string;
  /** Joins the logs of all that one request, or one cycle, set going; tasks of earlier builds have none. */
  readonly correlationId?: string;
  readonly failing: readonly Finding[];
}

/** The first success after a failure. */
export type RecoveryTask = Omit<FailureTask, 'failing' | 'team'>;

/** The DKIM records of a domain are others than before. */
export type NewRecordsTask = Omit<RecoveryTask, 'episode'> & {
  /** Of the event, in its stream. */
  readonly version: number;
};

export const newRecordsOf = ({ domainId, version }: Pick<NewRecordsTask, 'domainId' | 'version'>): string =>
  `${domainId}/records/${version}`;

/** The key of a failure in the list and in the deliveries. */
export const episodeOf = ({ domainId, episode }: Pick<FailureTask, 'domainId' | 'episode'>): string =>
  `${domainId}/${episode}`;

export const recoveryOf = (recovery: RecoveryTask): string => `${episodeOf(recovery)}/recovered`;

/** Until the failure itself is dealt with. */
const failureFirstMs = 2_000;

/** Until it is looked again whether more of a team fails, at most. */
const longestLookMs = 60_000;

const mails = new Counter({
  name: 'sendmux_notifier_mails_total',
  help: 'Mails to owners, by what the mail server said',
  labelNames: ['outcome'],
});
const alarms = new Counter({
  name: 'sendmux_notifier_alarms_total',
  help: 'What an operator must look at: owners that could not be told as they should',
  labelNames: ['reason'],
});

const outcomes = {
  told: 'owners told',
  superseded: 'nobody told: it is over',
  no_owners: 'nobody told: there are no owners',
} as const;

/** What leads from a line of the log to the domain, and to what set it going. */
type Traced = Pick<RecoveryTask, 'domainId' | 'correlationId'>;
const traced = ({ domainId, correlationId }: Traced, key: string) => ({
  ...{ domain: domainId, correlation_id: correlationId, episode: key },
});

/** What one mail tells of one domain. */
interface Told {
  readonly task: Traced;
  /** In the deliveries. */
  readonly key: string;
  /** As `OwnersTold` has them. */
  readonly about: Notice;
  readonly notice: number;
}

interface Mailing<Item extends Told> {
  readonly items: readonly Item[];
  readonly team: string;
  readonly owners: readonly string[];
  readonly from: string;
  /** For an owner who has still to hear of these. */
  readonly mail: (items: readonly Item[]) => FailureMail;
}

interface ToldFailure extends Told {
  readonly task: FailureTask;
  readonly failure: Failure;
}

/** How the mail about a failure waits for others of its team. */
export interface Gathering {
  readonly failures: Pick<TeamFailures, 'areComing' | 'waiting' | 'alone'>;
  /** Longest wait from the first failure, in milliseconds: a cycle, after which no more can come with it. */
  readonly withinMs: number;
}

/** Without an operator nothing changes: no hurry. */
const noSenderRetryMs = 600_000;

/** Tells the owners of a team what has become of their domains, each once. */
export class Notifier {
  private readonly logger = new Logger(Notifier.name);

  constructor(
    private readonly domains: Pick<DomainCommandHandler, 'load' | 'execute'>,
    private readonly accounts: Pick<Accounts, 'owners'>,
    private readonly deliveries: Deliveries,
    private readonly smtp: Pick<Transporter, 'sendMail'>,
    private readonly from: string,
    private readonly gathering: Gathering,
  ) {}

  /**
   * Sends what is still to be sent of a failure, together with the other failures of the team: an outage of its DNS provider
   * fails all of its domains within one cycle, and is one mail. A domain that has been verified again, or deleted, is not
   * written about: the mail would be wrong when it is read. A team without owners is the operator's to ask after, and is not
   * tried again.
   */
  async tell(failure: FailureTask, signal: AbortSignal): Promise<TaskOutcome> {
    const { failures, withinMs } = this.gathering;
    const { team } = failure;
    if (team === undefined) return this.tellTogether([failure], signal);
    if (await this.deliveries.isSettled(episodeOf(failure))) return 'done';
    const waitedMs = Date.now() - Date.parse(failure.at);
    if (waitedMs < withinMs && (await failures.areComing(team, failure.at)))
      return { retryInMs: Math.min(withinMs / 20, longestLookMs), error: 'Waits for what else of its team fails' };
    const outcome = await failures.alone(team, async () => {
      const others = (await failures.waiting(team)).filter((other) => episodeOf(other) !== episodeOf(failure));
      return this.tellTogether([failure, ...others], signal);
    });
    return outcome ?? { retryInMs: failureFirstMs, error: 'Another failure of the team is being told' };
  }

  private async tellTogether(failures: readonly FailureTask[], signal: AbortSignal): Promise<TaskOutcome> {
    const items: ToldFailure[] = [];
    let team = '';
    for (const task of failures) {
      const key = episodeOf(task);
      if (await this.deliveries.isSettled(key)) continue;
      const { state } = await this.domains.load(task.domainId);
      if (state.status !== 'failed' || state.episodes !== task.episode) {
        // Some may have been told before it was over.
        await this.recordTold({ task, key, about: 'failure', notice: task.episode });
        await this.settle(task, key, 'superseded');
        continue;
      }
      team = state.team;
      // What the same look could not judge; a later one of the customer's says nothing of it.
      const seen = state.checkedAt === task.at ? (state.lastAssessment?.findings ?? []) : [];
      const unjudged = seen.filter(({ outcome }) => outcome === 'indeterminate');
      items.push({
        task,
        key,
        about: 'failure',
        notice: task.episode,
        failure: { ...task, name: state.name, unjudged },
      });
    }
    if (items.length === 0) return 'done';
    const names = items.map(({ failure }) => failure.name);
    const owners = await this.owners(team);
    if (owners.length === 0) {
      this.alarm('no_owners', `${team} has no owners: nobody was told that ${names.join(', ')} has failed`);
      for (const { task, key } of items) await this.settle(task, key, 'no_owners');
      return 'done';
    }
    const from = senderFor(names, this.from);
    if (from !== this.from)
      this.alarm('sender_on_failing_domain', `NOTIFY_FROM lies in ${names.join(', ')}, which has failed: set another`);
    if (!from) return { retryInMs: noSenderRetryMs, error: `No sender outside ${names.join(', ')}` };
    const mail = (of: readonly ToldFailure[]) =>
      of.length === 1 ? failureMail(of[0]!.failure) : teamFailureMail(of.map(({ failure }) => failure));
    return this.send({ items, team, owners, from, mail }, signal);
  }

  /** Tells those who were told of a failure that it is over, once. Nobody who knows of no failure hears of its end. */
  async tellOfRecovery(recovery: RecoveryTask, signal: AbortSignal): Promise<TaskOutcome> {
    const key = recoveryOf(recovery);
    if (await this.deliveries.isSettled(key)) return 'done';
    const failure = episodeOf(recovery);
    if (!(await this.deliveries.isSettled(failure)))
      return { retryInMs: failureFirstMs, error: 'The failure is still to be dealt with' };
    const { state } = await this.domains.load(recovery.domainId);
    const told = await this.deliveries.told(failure);
    if (state.status !== 'verified' || state.episodes !== recovery.episode || told.size === 0)
      return this.settle(recovery, key, 'superseded');
    const owners = (await this.owners(state.team)).filter((address) => told.has(recipientOf(address)));
    const from = senderFor([state.name], this.from);
    if (!from) return { retryInMs: noSenderRetryMs, error: `No sender outside ${state.name}` };
    const mail = () => recoveryMail({ name: state.name, at: recovery.at });
    const item = { task: recovery, key, about: 'recovery', notice: recovery.episode } as const;
    return this.send({ items: [item], team: state.team, owners, from, mail }, signal);
  }

  /** Tells every owner which DKIM records to place in the place of those that he was told before. */
  async tellOfNewRecords(change: NewRecordsTask, signal: AbortSignal): Promise<TaskOutcome> {
    const key = newRecordsOf(change);
    if (await this.deliveries.isSettled(key)) return 'done';
    const { state } = await this.domains.load(change.domainId);
    if (!isLive(state)) return this.settle(change, key, 'superseded');
    const owners = await this.owners(state.team);
    if (owners.length === 0) {
      this.alarm('no_owners', `${state.team} has no owners: nobody was told of the new DKIM records of ${state.name}`);
      return this.settle(change, key, 'no_owners');
    }
    // The domain still stands, but its mail is not signed: a sender elsewhere is the safer.
    const from = senderFor([state.name], this.from);
    if (!from) return { retryInMs: noSenderRetryMs, error: `No sender outside ${state.name}` };
    const mail = () => newRecordsMail({ name: state.name, at: change.at, records: dnsRecords(state).dkim });
    const item = { task: change, key, about: 'new_records', notice: change.version } as const;
    return this.send({ items: [item], team: state.team, owners, from, mail }, signal);
  }

  /** One mail to each owner, of what he has not been told; done when nothing more is to be sent. */
  private async send<Item extends Told>(
    { items, team, owners, from, mail }: Mailing<Item>,
    signal: AbortSignal,
  ): Promise<TaskOutcome> {
    const done = new Map<Item, Set<string>>();
    for (const item of items) done.set(item, await this.deliveries.recipients(item.key));
    let deferred: string | undefined;
    for (const address of owners) {
      const recipient = recipientOf(address);
      const news = items.filter((item) => !done.get(item)!.has(recipient));
      if (news.length === 0) continue;
      signal.throwIfAborted();
      const keys = news.map(({ key }) => key);
      const record = async (outcome: 'sent' | 'undeliverable') => {
        for (const key of keys) await this.deliveries.record(key, recipient, outcome);
        mails.inc({ outcome });
      };
      try {
        await this.smtp.sendMail({
          ...mail(news),
          from,
          to: { name: '', address },
          messageId: messageId(keys, recipient, from),
          headers: { 'Auto-Submitted': 'auto-generated' },
        });
      } catch (error) {
        const said = withoutAddresses((error as Error).message);
        if (isRefusedForGood(error)) {
          this.alarm('undeliverable', `Owner ${recipient} of ${team} cannot be told of ${keys.join(', ')}: ${said}`);
          await record('undeliverable');
        } else {
          mails.inc({ outcome: 'deferred' });
          deferred = said;
        }
        continue;
      }
      await record('sent');
    }
    for (const item of items) {
      const { task, key } = item;
      if (deferred === undefined) {
        await this.recordTold(item);
        await this.settle(task, key, 'told');
      } else this.logger.log({ ...traced(task, key), error: deferred }, 'mail deferred');
    }
    return deferred === undefined ? 'done' : { error: deferred };
  }

  /** For the history of the domain. Should it fail, the task is done again: those who were told are not told again. */
  private async recordTold({ task, key, about, notice }: Told): Promise<void> {
    const { size: owners } = await this.deliveries.told(key);
    if (owners === 0) return;
    const { domainId, correlationId = key } = task;
    const context = { at: new Date().toISOString(), actor: 'notifier', correlationId };
    await this.domains.execute(new RecordOwnersTold(domainId, { about, notice, owners }, context));
  }

  /** Nothing more is to be sent. */
  private async settle(task: Traced, key: string, outcome: keyof typeof outcomes): Promise<'done'> {
    await this.deliveries.settle(key, outcome);
    this.logger.log(traced(task, key), outcomes[outcome]);
    return 'done';
  }

  private async owners(team: string): Promise<string[]> {
    try {
      return await this.accounts.owners(team);
    } catch (error) {
      if (error instanceof AccountRuleBroken) return [];
      throw error;
    }
  }

  private alarm(reason: string, message: string): void {
    alarms.inc({ reason });
    this.logger.error(message);
  }
}

/** The same for the same owner and failures, so that a mail sent again can be known as the same. */
const messageId = (episodes: readonly string[], recipient: string, from: string): string =>
  `<${createHash('sha256')
    .update([...[...episodes].sort(), recipient].join(' '))
    .digest('hex')
    .slice(0, 32)}@${senderDomain(from)}>`;

/** What a mail server says names the recipient, whose address belongs in no log and no table. */
const withoutAddresses = (text: string): string => text.replace(/[^\s<>@]+@[^\s<>@]+/g, '[address]');

/**
 * A 5xx to the recipient or to the mail. One to the greeting, the login or the sender is ours, and may be mended; so is one
 * of security or policy (530, or 5.7.x of RFC 3463), such as "relaying denied".
 */
function isRefusedForGood(error: unknown): boolean {
  const { responseCode = 0, command, response = '' } = error as SmtpError;
  if (responseCode === 530 || /^5\d\d[ -]5\.7\./.test(response)) return false;
  return responseCode >= 500 && (command === 'RCPT TO' || command === 'DATA');
}

interface SmtpError {
  readonly responseCode?: number;
  readonly command?: string;
  /** The whole reply. */
  readonly response?: string;
}
