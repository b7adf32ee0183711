import { Injectable, Logger, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import { DomainCommandHandler, MailboxCommandHandler } from '@app/commands';
import { isLive, type Provisioned } from '@app/mail-domain';
import { MailServer } from '@app/mail-server';
import { defaultShard, sesRelay } from '@app/runtime';
import { StoredSenderRules } from '@app/sender-rules';
import { ofReconcileKey, provisioningLists, TaskList, TaskWorker } from '@app/tasks';
import { RoleMail } from './role-mail';

export const placementTasks = provisioningLists.placement;
const relaysTask = 'relays';
const roleMailTask = 'role-mail';

/** Holds the relays of the outbound providers: `host:port` by the provider's name. */
export class OutboundRelays extends Map<string, string> {}

/**
 * Updates the mail server with the mailboxes and the outbound providers that they use, as their streams are at that
 * time.
 */
@Injectable()
export class PlacementWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(PlacementWorker.name);
  private readonly worker: TaskWorker;

  constructor(
    private readonly tasks: TaskList,
    private readonly mailboxes: MailboxCommandHandler,
    private readonly domains: DomainCommandHandler,
    private readonly mailServer: MailServer,
    private readonly senderRules: StoredSenderRules,
    private readonly relays: OutboundRelays,
    private readonly roleMail: RoleMail,
  ) {
    this.worker = new TaskWorker(tasks, {
      list: placementTasks,
      concurrency: 16,
      backOff: { baseMs: 500, capMs: 10_000 },
      handle: async ({ key }) => {
        const { id, isAnew } = ofReconcileKey(key);
        if (key === roleMailTask) return this.roleMail.update();
        if (key === relaysTask) await this.updateRelays();
        else if (id.startsWith('mbx_')) await this.placeMailbox(id);
        else {
          if (isAnew) await this.registerAgain(id);
          await this.placeDomain(id);
        }
        return 'done';
      },
    });
  }

  /**
   * Relays and roles are tasks as well, so that they are updated even if the mail server is unavailable at the start.
   */
  async onApplicationBootstrap(): Promise<void> {
    for (const task of [relaysTask, roleMailTask]) await this.tasks.put(placementTasks, task, 'start', {});
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

  /** Gives a domain that lives a row where it has lost it, and takes what its events do not say. */
  private async registerAgain(domainId: string): Promise<void> {
    const { state } = await this.domains.load(domainId);
    if (!isLive(state)) return;
    const added = await this.mailServer.add(state.name, domainId, state.mode !== 'send_only');
    if (added.outcome === 'foreign')
      throw new Error(`The mail server has ${state.name} for ${added.domainId}, and not for ${domainId}`);
    if (!state.senderFilters) await this.mailServer.forgetSenders(domainId);
    // A deletion that was requested meanwhile may have removed the row before it was made again.
    const { state: now } = await this.domains.load(domainId);
    if (!isLive(now)) await this.mailServer.remove(state.name, domainId);
  }

  private async placeDomain(domainId: string): Promise<void> {
    const { state, version } = await this.domains.load(domainId);
    if (state.status === 'deleted') return this.forget(domainId);
    if (!('outboundProvider' in state)) return;
    if (state.mode !== 'send_only') await this.mailServer.enableReceiving(domainId);
    const relay = sesRelay(state.sesShard ?? defaultShard);
    await this.mailServer.chooseProvider(domainId, state.outboundProvider, version, { relay, tenant: state.sesTenant });
    this.warnOfUnknown(state.outboundProvider, domainId);
    if (state.senderFilters) await this.placeFilters(domainId, state.senderFilters, version);
  }

  private async placeFilters(
    domainId: string,
    { mode, rules: count, digest }: NonNullable<Provisioned['senderFilters']>,
    version: number,
  ): Promise<void> {
    const rules = count === 0 ? [] : await this.senderRules.find(domainId, digest);
    // Rules that are gone were replaced meanwhile, by an event that has a task of its own.
    if (rules) await this.mailServer.filterSenders(domainId, mode, rules, version);
  }

  /** Removes what a domain that is gone has chosen, and erases what its rules say of people. */
  private async forget(domainId: string): Promise<void> {
    await this.mailServer.forgetProvider(domainId);
    await this.mailServer.forgetSenders(domainId);
    await this.senderRules.erase(domainId);
  }

  /** Warns of a provider that only the gateway knows: the mail is delivered, but not through that provider. */
  private warnOfUnknown(provider: string | null, id: string): void {
    if (provider !== null && !this.relays.has(provider))
      this.logger.warn(
        `${id} sends through ${provider}, which OUTBOUND_PROVIDERS of the provisioning does not name: name it there, as at the gateway`,
      );
  }

  private async updateRelays(): Promise<void> {
    const kept = await this.mailServer.replaceProviders(this.relays);
    if (kept.length > 0)
      this.logger.warn(
        `OUTBOUND_PROVIDERS no longer names ${kept.join(', ')}, and somebody sends through it: it stays until nobody does`,
      );
  }
}
