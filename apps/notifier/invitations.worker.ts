import { Injectable, Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { invitationMail, Invitations, invitationTasks, type InvitationTask } from '@app/accounts';
import { TaskList, TaskWorker, type TaskOutcome } from '@app/tasks';
import type { Transporter } from 'nodemailer';
import { recipientOf } from './deliveries';
import { smtpFault, withoutAddresses } from './smtp-error';

/** Where an invitation is sent from, and where it is accepted. */
export interface InvitationMailing {
  readonly smtp: Pick<Transporter, 'sendMail'>;
  readonly from: string;
  readonly publicUrl: string;
}

/**
 * Mails the invitations that customers ask for. A mail that is sent again has another token, and only the newest
 * counts.
 */
@Injectable()
export class InvitationsWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(InvitationsWorker.name);
  private readonly worker: TaskWorker;

  constructor(
    tasks: TaskList,
    private readonly invitations: Pick<Invitations, 'reissue'>,
    private readonly mailing: InvitationMailing,
  ) {
    this.worker = new TaskWorker(tasks, {
      list: invitationTasks,
      backOff: { baseMs: 2_000, capMs: 900_000 },
      handle: ({ payload }) => this.send(payload as InvitationTask),
    });
  }

  onApplicationBootstrap(): void {
    this.worker.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.worker.stop();
  }

  private async send(task: InvitationTask): Promise<TaskOutcome> {
    const invitation = await this.invitations.reissue(task);
    // Accepted, withdrawn or over by now.
    if (!invitation) return 'done';
    const { smtp, from, publicUrl } = this.mailing;
    try {
      await smtp.sendMail({
        ...invitationMail(invitation, publicUrl),
        from,
        to: { name: '', address: invitation.email },
        headers: { 'Auto-Submitted': 'auto-generated' },
      });
      return 'done';
    } catch (error) {
      const reason = withoutAddresses((error as Error).message);
      if (smtpFault(error) !== 'recipient') return { error: reason };
      this.logger.warn(`${recipientOf(invitation.email)} cannot be invited to ${task.team}: ${reason}`);
      return 'done';
    }
  }
}
