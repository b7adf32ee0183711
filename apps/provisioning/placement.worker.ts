import { Injectable, Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { DomainCommandHandler, MailboxCommandHandler } from '@app/commands';
import { MailServer } from '@app/mail-server';
import { TaskList, TaskWorker } from '@app/tasks';

/** What the mail server has to be told: a key is the id of a mailbox or of a domain, or stands for the relays. */
export const placementTasks = 'placement';
const relaysTask = 'relays';

/** The relays of the outbound providers: `host:port` by name. */
export class OutboundRelays extends Map<string, string> {}

/** Tells the mail server where mailboxes are and what they send through: always what the stream says now. */
@Injectable()
export class PlacementWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(PlacementWorker.name);
  private readonly worker: TaskWorker;

  constructor(
    private readonly tasks: TaskList,
    private readonly mailboxes: MailboxCommandHandler,
    private readonly domains: DomainCommandHandler,
    private readonly mailServer: MailServer,
    private readonly relays: OutboundRelays,
  ) {
    this.worker = new TaskWorker(tasks, {
      list: placementTasks,
      concurrency: 16,
      backOff: { baseMs: 500, capMs: 10_000 },
      handle: async ({ key }) => {
        if (key === relaysTask) await this.nameRelays();
        else if (key.startsWith('mbx_')) await this.placeMailbox(key);
        else await this.choose(key);
        return 'done';
      },
    });
  }

  /** The relays of this release's settings, however long the mail server is away. */
  async onApplicationBootstrap(): Promise<void> {
    await this.tasks.put(placementTasks, relaysTask, 'start', {});
    this.worker.run();
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.worker.stop();
  }

  private async placeMailbox(id: string): Promise<void> {
    const { state, version } = await this.mailboxes.load(id);
    if (state.status === 'absent') throw new Error(`There is no stream ${id}.`);
    await this.mailServer.putMailbox({ ...state, version });
    this.warnOfUnknown(state.provider, id);
  }

  private async choose(domainId: string): Promise<void> {
    const { state, version } = await this.domains.load(domainId);
    if (!('outboundProvider' in state)) return;
    await this.mailServer.chooseProvider(domainId, state.outboundProvider, version);
    this.warnOfUnknown(state.outboundProvider, domainId);
  }

  /** The gateway knows more providers than we do: its mail leaves, but not through the one that was chosen. */
  private warnOfUnknown(provider: string | null, id: string): void {
    if (provider !== null && !this.relays.has(provider))
      this.logger.warn(
        `${id} sends through ${provider}, which OUTBOUND_PROVIDERS of the provisioning does not name: name it there, as at the gateway`,
      );
  }

  private async nameRelays(): Promise<void> {
    const kept = await this.mailServer.replaceProviders(this.relays);
    if (kept.length > 0)
      this.logger.warn(
        `OUTBOUND_PROVIDERS no longer names ${kept.join(', ')}, and somebody sends through it: it stays until nobody does`,
      );
  }
}
