import { Injectable } from '@nestjs/common';
import { CommandBus } from '@nestjs/cqrs';
import type { MailboxDecided } from '@app/commands';
import {
  ChooseOutboundProvider,
  CreateMailbox,
  DeleteMailbox,
  parseAddress,
  ResumeMailbox,
  sharedDomain,
  SuspendMailbox,
  type MailboxCommand,
} from '@app/mailbox';
import { DomainsReadModel, MailboxesReadModel, type MailboxView } from '@app/read-model';
import { contextOf, type Request } from '../domains/domains.service';
import { ApiError } from '../http/api-error';
import { mailboxIdForm } from './mailbox.dto';

/** What customers do with their mailboxes. What is decided here reaches the mail server with the events. */
@Injectable()
export class Mailboxes {
  constructor(
    private readonly commands: CommandBus,
    private readonly domains: DomainsReadModel,
    private readonly mailboxes: MailboxesReadModel,
  ) {}

  /**
   * Creates a mailbox. With the id of one that was created before, gives that one.
   *
   * @throws {AddressRefused}, {MailboxRuleBroken}
   */
  async create(id: string, written: string, provider: string | null, request: Request): Promise<MailboxView> {
    const { address, domain } = parseAddress(written);
    const { team } = request.caller;
    const home = domain === sharedDomain ? null : await this.domains.homeOf(domain, team);
    await this.execute(new CreateMailbox(id, { address, team, home, provider }, contextOf(request)));
    return this.find(id, team);
  }

  /** @throws {ApiError} `not_found` */
  async find(id: string, team: string): Promise<MailboxView> {
    // What cannot be an id is none, and never reaches the database, which takes no NUL.
    const view = mailboxIdForm.test(id) ? await this.mailboxes.find(id, team) : undefined;
    if (!view) throw notFound(id);
    return view;
  }

  page(team: string, limit: number, before?: string, domainId?: string): Promise<MailboxView[]> {
    return this.mailboxes.page(team, limit, before, domainId);
  }

  suspend(id: string, request: Request): Promise<MailboxView> {
    return this.change(new SuspendMailbox(id, contextOf(request)), request);
  }

  resume(id: string, request: Request): Promise<MailboxView> {
    return this.change(new ResumeMailbox(id, contextOf(request)), request);
  }

  /** @throws {ApiError} `not_found`; {MailboxRuleBroken} on the shared domain. */
  chooseProvider(id: string, provider: string | null, request: Request): Promise<MailboxView> {
    return this.change(new ChooseOutboundProvider(id, { provider }, contextOf(request)), request);
  }

  /** @throws {ApiError} `not_found` */
  async delete(id: string, request: Request): Promise<void> {
    await this.find(id, request.caller.team);
    await this.execute(new DeleteMailbox(id, contextOf(request)));
  }

  /** @throws {ApiError} `not_found` */
  private async change(command: MailboxCommand, { caller }: Request): Promise<MailboxView> {
    await this.find(command.mailboxId, caller.team);
    await this.execute(command);
    return this.find(command.mailboxId, caller.team);
  }

  private execute(command: MailboxCommand): Promise<MailboxDecided> {
    return this.commands.execute<MailboxCommand, MailboxDecided>(command);
  }
}

const notFound = (id: string) => new ApiError('not_found', `There is no mailbox ${id.slice(0, 100)}.`);
