import { Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { DomainCommandHandler } from '@app/commands';
import { senderRulesTasks, StoredSenderRules } from '@app/sender-rules';
import { TaskList, TaskWorker } from '@app/tasks';

/**
 * Erases rules about senders that nothing names, an hour after they were stored: those that were replaced, and those of
 * a change that was refused, was cut short by a crash, or came while its domain was being deleted.
 */
@Injectable()
export class SenderRulesWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly worker: TaskWorker;

  constructor(
    tasks: TaskList,
    private readonly domains: DomainCommandHandler,
    private readonly stored: StoredSenderRules,
  ) {
    this.worker = new TaskWorker(tasks, {
      list: senderRulesTasks,
      handle: async ({ key }) => {
        await this.eraseUnnamed(key);
        return 'done';
      },
    });
  }

  onApplicationBootstrap(): void {
    this.worker.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.worker.stop();
  }

  private async eraseUnnamed(domainId: string): Promise<void> {
    const { state } = await this.domains.load(domainId);
    if (state.status === 'deleted') return this.stored.erase(domainId);
    const named = 'senderFilters' in state ? state.senderFilters?.digest : undefined;
    return this.stored.eraseOthers(domainId, named ?? 'none');
  }
}
