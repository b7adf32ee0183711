import {
  Inject,
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { TaskList, TaskWorker, type TaskOutcome } from '@app/tasks';
import { findDisabled, webhookNotices, type WebhookNotice } from '@app/webhooks';
import { Pool } from 'pg';
import { OwnerMailer } from './owner-mailer';
import { webhookMail } from './webhook-mail';

/** What a notice says once it is read from the list. */
type Noticed = Pick<WebhookNotice, 'webhook'> & { readonly at: string };

/** Mails owners that a webhook of their team was disabled, each once. */
@Injectable()
export class WebhookNoticesWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(WebhookNoticesWorker.name);
  private readonly worker: TaskWorker;

  constructor(
    tasks: TaskList,
    private readonly mailer: OwnerMailer,
    @Inject(Pool) private readonly pool: Pool,
  ) {
    this.worker = new TaskWorker(tasks, {
      list: webhookNotices,
      backOff: { baseMs: 2_000, capMs: 900_000 },
      handle: ({ payload }, signal) => this.tell(payload as Noticed, signal),
    });
  }

  onApplicationBootstrap(): void {
    this.worker.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.worker.stop();
  }

  private async tell({ webhook: id, at }: Noticed, signal: AbortSignal): Promise<TaskOutcome> {
    const webhook = await findDisabled(this.pool, id);
    if (!webhook) return 'done';
    const { team } = webhook;
    const owners = await this.mailer.owners(team);
    if (owners.length === 0) {
      this.mailer.alarm('no_owners', `${team} has no owners: nobody was told that its webhook ${id} is disabled`);
      return 'done';
    }
    const outcome = await this.mailer.sendOnce(`${id}/${at}`, { team, owners, mail: webhookMail(webhook, at) }, signal);
    if (outcome === 'done') this.logger.log({ webhook: id, because: webhook.because }, 'owners told');
    return outcome;
  }
}
