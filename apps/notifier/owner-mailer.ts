import { createHash } from 'node:crypto';
import { Logger } from '@nestjs/common';
import { AccountRuleBroken, type Accounts } from '@app/accounts';
import type { Commands } from '@app/commands';
import { RecordOwnersTold, type Notice } from '@app/mail-domain';
import { Counter, CounterpartAlarm } from '@app/runtime';
import type { TaskOutcome } from '@app/tasks';
import type { Transporter } from 'nodemailer';
import { recipientOf, type Deliveries } from './deliveries';
import type { FailureMail } from './failure-mail';
import type { RecoveryTask } from './notices';
import { senderDomain, senderFor } from './sender';
import { smtpFault, withoutAddresses } from './smtp-error';

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

// The counters start at zero, since an alarm on a rate needs a first value.
for (const reason of ['no_owners', 'sender_on_failing_domain', 'undeliverable'] as const) alarms.inc({ reason }, 0);

const outcomes = {
  told: 'owners told',
  superseded: 'nobody told: it is over',
  no_owners: 'nobody told: there are no owners',
} as const;

/** One notice about one domain. A mail carries one or several. */
export interface MailedNotice {
  readonly task: Pick<RecoveryTask, 'domainId' | 'correlationId'>;
  /** The key of the notice in the deliveries. */
  readonly key: string;
  /** The kind and the number of the notice, as in the event `OwnersTold`. */
  readonly about: Notice;
  readonly notice: number;
}

export interface Mailing<Item extends MailedNotice> {
  readonly items: readonly Item[];
  readonly team: string;
  readonly owners: readonly string[];
  readonly from: string;
  /** Writes the mail to an owner about the notices that he has not had. */
  readonly mail: (items: readonly Item[]) => FailureMail;
}

/** Mails notices to the owners of a team, each once, and records who has had which. */
export class OwnerMailer {
  private readonly logger = new Logger(OwnerMailer.name);
  private readonly smtpAlarm = new CounterpartAlarm('smtp');

  constructor(
    private readonly commands: Pick<Commands, 'execute'>,
    private readonly accounts: Pick<Accounts, 'owners'>,
    private readonly deliveries: Deliveries,
    private readonly smtp: Pick<Transporter, 'sendMail'>,
    private readonly configuredSender: string,
  ) {}

  /** Reads the addresses of the owners; none when the team does not exist. */
  async owners(team: string): Promise<string[]> {
    try {
      return await this.accounts.owners(team);
    } catch (error) {
      if (error instanceof AccountRuleBroken) return [];
      throw error;
    }
  }

  /**
   * Gives the sender for a mail about these domains, undefined when there is none, and whether it is the configured
   * one.
   */
  sender(names: readonly string[]): { readonly from: string | undefined; readonly isConfigured: boolean } {
    const from = senderFor(names, this.configuredSender);
    return { from, isConfigured: from === this.configuredSender };
  }

  /**
   * Sends one mail to each owner about the notices that he has not had. The outcome is `done` when no mail is left to
   * be sent.
   */
  async send<Item extends MailedNotice>(mailing: Mailing<Item>, signal: AbortSignal): Promise<TaskOutcome> {
    const { items, owners, mail } = mailing;
    const done = new Map<Item, Set<string>>();
    for (const item of items) done.set(item, await this.deliveries.recipients(item.key));
    let deferred: string | undefined;
    for (const address of owners) {
      const due = items.filter((item) => !done.get(item)!.has(recipientOf(address)));
      if (due.length === 0) continue;
      signal.throwIfAborted();
      const keys = due.map(({ key }) => key);
      deferred = (await this.sendTo(address, mail(due), keys, mailing)) ?? deferred;
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

  /**
   * Sends one mail to each owner who has not had it, where it is about no domain. The outcome is `done` when no mail is
   * left to be sent.
   *
   * @param key by which it is known who has had it.
   */
  async sendOnce(
    key: string,
    { team, owners, mail }: { readonly team: string; readonly owners: readonly string[]; readonly mail: FailureMail },
    signal: AbortSignal,
  ): Promise<TaskOutcome> {
    const done = await this.deliveries.recipients(key);
    let deferred: string | undefined;
    for (const address of owners.filter((owner) => !done.has(recipientOf(owner)))) {
      signal.throwIfAborted();
      deferred = (await this.sendTo(address, mail, [key], { team, from: this.configuredSender })) ?? deferred;
    }
    return deferred === undefined ? 'done' : { error: deferred };
  }

  /**
   * Records in the domain's history how many owners have had the notice. When this fails, the task is run again,
   * without a second mail.
   */
  async recordTold({ task, key, about, notice }: MailedNotice): Promise<void> {
    const { size: owners } = await this.deliveries.told(key);
    if (owners === 0) return;
    const { domainId, correlationId = key } = task;
    const context = { at: new Date().toISOString(), actor: 'notifier', correlationId };
    await this.commands.execute(new RecordOwnersTold(domainId, { about, notice, owners }, context));
  }

  /** Settles a notice, which gets no more mail. */
  async settle(task: MailedNotice['task'], key: string, outcome: keyof typeof outcomes): Promise<'done'> {
    await this.deliveries.settle(key, outcome);
    this.logger.log(traced(task, key), outcomes[outcome]);
    return 'done';
  }

  /** Logs and counts what needs an operator. */
  alarm(reason: string, message: string): void {
    alarms.inc({ reason });
    this.logger.error(message);
  }

  /** Sends one mail and records it. Gives the mail server's reason when it has to be sent again later. */
  private async sendTo(
    address: string,
    mail: FailureMail,
    keys: readonly string[],
    { team, from }: Pick<Mailing<MailedNotice>, 'team' | 'from'>,
  ): Promise<string | undefined> {
    const recipient = recipientOf(address);
    try {
      await this.smtp.sendMail({
        ...mail,
        from,
        to: { name: '', address },
        messageId: messageId(keys, recipient, from),
        headers: { 'Auto-Submitted': 'auto-generated' },
      });
    } catch (error) {
      const reason = withoutAddresses((error as Error).message);
      const fault = smtpFault(error);
      if (fault === 'ours') {
        const { responseCode } = error as { readonly responseCode?: number };
        this.smtpAlarm.raise(String(responseCode ?? 'login'), 'the SMTP server refuses this installation', {
          said: reason,
        });
      }
      if (fault !== 'recipient') {
        mails.inc({ outcome: 'deferred' });
        return reason;
      }
      this.alarm('undeliverable', `Owner ${recipient} of ${team} cannot be told of ${keys.join(', ')}: ${reason}`);
      await this.recordDelivery(keys, recipient, 'undeliverable');
      return undefined;
    }
    await this.recordDelivery(keys, recipient, 'sent');
    return undefined;
  }

  private async recordDelivery(
    keys: readonly string[],
    recipient: string,
    outcome: 'sent' | 'undeliverable',
  ): Promise<void> {
    for (const key of keys) await this.deliveries.record(key, recipient, outcome);
    mails.inc({ outcome });
  }
}

/** Gives the log fields that link a line to its domain and to the request or cycle that caused it. */
const traced = ({ domainId, correlationId }: MailedNotice['task'], key: string) => ({
  domain: domainId,
  correlation_id: correlationId,
  episode: key,
});

/** Gives the same id for the same owner and notices, so that a mail server can discard a mail that is sent twice. */
const messageId = (keys: readonly string[], recipient: string, from: string): string =>
  `<${createHash('sha256')
    .update([...[...keys].sort(), recipient].join(' '))
    .digest('hex')
    .slice(0, 32)}@${senderDomain(from)}>`;
