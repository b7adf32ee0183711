import { Injectable, Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { setupMailTasks, SetupLinks, type SetupMailTask } from '@app/accounts';
import { recordsWithStatus, registrableDomain } from '@app/mail-records';
import { DomainsReadModel } from '@app/read-model';
import { TaskList, TaskWorker, type TaskOutcome } from '@app/tasks';
import { recipientOf } from './deliveries';
import type { InvitationMailing } from './invitations.worker';
import { setupMail } from './setup-mail';
import { smtpFault, withoutAddresses } from './smtp-error';

/**
 * Mails setup links with the records of their domain. A mail that is sent again, after a crash, has another token, and
 * only the newest counts.
 */
@Injectable()
export class SetupInstructionsWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(SetupInstructionsWorker.name);
  private readonly worker: TaskWorker;

  constructor(
    tasks: TaskList,
    private readonly links: Pick<SetupLinks, 'reissue'>,
    private readonly domains: Pick<DomainsReadModel, 'find'>,
    private readonly mailing: InvitationMailing,
  ) {
    this.worker = new TaskWorker(tasks, {
      list: setupMailTasks,
      backOff: { baseMs: 2_000, capMs: 900_000 },
      handle: ({ payload }) => this.send(payload as SetupMailTask),
    });
  }

  onApplicationBootstrap(): void {
    this.worker.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.worker.stop();
  }

  private async send(task: SetupMailTask): Promise<TaskOutcome> {
    const link = await this.links.reissue(task);
    // Revoked or over by now.
    if (!link?.email) return 'done';
    const domain = await this.domains.find(link.domainId, link.team);
    if (!domain || domain.status === 'deleting') return 'done';
    const { smtp, from, publicUrl } = this.mailing;
    const mail = { link, domain: domain.name, zone: registrableDomain(domain.name) };
    try {
      await smtp.sendMail({
        ...setupMail({ ...mail, records: recordsWithStatus(domain, []) }, publicUrl),
        from,
        to: { name: '', address: link.email },
        headers: { 'Auto-Submitted': 'auto-generated' },
      });
      return 'done';
    } catch (error) {
      const reason = withoutAddresses((error as Error).message);
      if (smtpFault(error) !== 'recipient') return { error: reason };
      this.logger.warn(`${recipientOf(link.email)} cannot be mailed the setup link ${link.id}: ${reason}`);
      return 'done';
    }
  }
}
