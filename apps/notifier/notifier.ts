import { createHash } from 'node:crypto';
import { Logger } from '@nestjs/common';
import { AccountRuleBroken, type Accounts } from '@app/accounts';
import type { DomainCommandHandler } from '@app/commands';
import type { Finding } from '@app/mail-domain';
import type { TaskOutcome } from '@app/tasks';
import type { Transporter } from 'nodemailer';
import { Counter } from 'prom-client';
import { recipientOf, type Deliveries } from './deliveries';
import { failureMail, type FailureMail } from './failure-mail';
import { recoveryMail } from './recovery-mail';
import { senderDomain, senderFor } from './sender';

export const notifierTasks = 'notifier';

/** One failure of one domain, as its event tells it. */
export interface FailureTask {
  readonly domainId: string;
  readonly episode: number;
  readonly at: string;
  /** Joins the logs of all that one request, or one cycle, set going; tasks of earlier builds have none. */
  readonly correlationId?: string;
  readonly failing: readonly Finding[];
}

/** The first success after a failure. */
export type RecoveryTask = Omit<FailureTask, 'failing'>;

/** The key of a failure in the list and in the deliveries. */
export const episodeOf = ({ domainId, episode }: Pick<FailureTask, 'domainId' | 'episode'>): string =>
  `${domainId}/${episode}`;

export const recoveryOf = (recovery: RecoveryTask): string => `${episodeOf(recovery)}/recovered`;

/** Until the failure itself is dealt with. */
const failureFirstMs = 2_000;

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
const traced = ({ domainId, correlationId }: RecoveryTask, key: string) => ({
  ...{ domain: domainId, correlation_id: correlationId, episode: key },
});

interface Mailing {
  readonly task: RecoveryTask;
  /** In the deliveries. */
  readonly key: string;
  readonly team: string;
  readonly owners: readonly string[];
  readonly from: string;
  readonly mail: FailureMail;
}

/** Without an operator nothing changes: no hurry. */
const noSenderRetryMs = 600_000;

/** Tells the owners of a team that a domain has failed, each once an episode. */
export class Notifier {
  private readonly logger = new Logger(Notifier.name);

  constructor(
    private readonly domains: Pick<DomainCommandHandler, 'load'>,
    private readonly accounts: Pick<Accounts, 'owners'>,
    private readonly deliveries: Deliveries,
    private readonly smtp: Pick<Transporter, 'sendMail'>,
    private readonly from: string,
  ) {}

  /**
   * Sends what is still to be sent of a failure. A domain that has been verified again, or deleted, is not written about:
   * the mail would be wrong when it is read. A team without owners is the operator's to ask after, and is not tried again.
   */
  async tell(failure: FailureTask, signal: AbortSignal): Promise<TaskOutcome> {
    const episode = episodeOf(failure);
    if (await this.deliveries.isSettled(episode)) return 'done';
    const { state } = await this.domains.load(failure.domainId);
    if (state.status !== 'failed' || state.episodes !== failure.episode)
      return this.settle(failure, episode, 'superseded');
    const owners = await this.owners(state.team);
    if (owners.length === 0) {
      this.alarm('no_owners', `${state.team} has no owners: nobody was told that ${state.name} has failed`);
      return this.settle(failure, episode, 'no_owners');
    }
    const from = senderFor(state.name, this.from);
    if (from !== this.from)
      this.alarm('sender_on_failing_domain', `NOTIFY_FROM lies in ${state.name}, which has failed: set another`);
    if (!from) return { retryInMs: noSenderRetryMs, error: `No sender outside ${state.name}` };

    // What the same look could not judge; a later one of the customer's says nothing of it.
    const seen = state.checkedAt === failure.at ? (state.lastAssessment?.findings ?? []) : [];
    const unjudged = seen.filter(({ outcome }) => outcome === 'indeterminate');
    const mail = failureMail({ ...failure, name: state.name, unjudged });
    return this.send({ task: failure, key: episode, team: state.team, owners, from, mail }, signal);
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
    const from = senderFor(state.name, this.from);
    if (!from) return { retryInMs: noSenderRetryMs, error: `No sender outside ${state.name}` };
    const mail = recoveryMail({ name: state.name, at: recovery.at });
    return this.send({ task: recovery, key, team: state.team, owners, from, mail }, signal);
  }

  /** One mail to each owner who has not had it; done when nothing more is to be sent. */
  private async send({ task, key, team, owners, from, mail }: Mailing, signal: AbortSignal): Promise<TaskOutcome> {
    const done = await this.deliveries.recipients(key);
    let deferred: string | undefined;
    for (const address of owners) {
      const recipient = recipientOf(address);
      if (done.has(recipient)) continue;
      signal.throwIfAborted();
      try {
        await this.smtp.sendMail({
          ...mail,
          from,
          to: { name: '', address },
          messageId: messageId(key, recipient, from),
          headers: { 'Auto-Submitted': 'auto-generated' },
        });
      } catch (error) {
        const said = withoutAddresses((error as Error).message);
        if (isRefusedForGood(error)) {
          mails.inc({ outcome: 'undeliverable' });
          this.alarm('undeliverable', `Owner ${recipient} of ${team} cannot be told of ${key}: ${said}`);
          await this.deliveries.record(key, recipient, 'undeliverable');
        } else {
          mails.inc({ outcome: 'deferred' });
          deferred = said;
        }
        continue;
      }
      mails.inc({ outcome: 'sent' });
      await this.deliveries.record(key, recipient, 'sent');
    }
    if (deferred === undefined) return this.settle(task, key, 'told');
    this.logger.log({ ...traced(task, key), error: deferred }, 'mail deferred');
    return { error: deferred };
  }

  /** Nothing more is to be sent. */
  private async settle(task: RecoveryTask, key: string, outcome: keyof typeof outcomes): Promise<'done'> {
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

/** The same for the same owner and failure, so that a mail sent again can be known as the same. */
const messageId = (episode: string, recipient: string, from: string): string =>
  `<${createHash('sha256').update(`${episode} ${recipient}`).digest('hex').slice(0, 32)}@${senderDomain(from)}>`;

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
