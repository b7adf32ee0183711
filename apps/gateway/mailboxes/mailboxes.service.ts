import { Injectable } from '@nestjs/common';
import { Commands } from '@app/commands';
import {
  CreateMailbox,
  DeleteMailbox,
  parseAddress,
  ResumeMailbox,
  sharedDomain,
  SuspendMailbox,
  UpdateMailbox,
  type MailboxCommand,
} from '@app/mailbox';
import { DomainsReadModel, MailboxesReadModel, type MailboxFilter, type MailboxView } from '@app/read-model';
import { contextOf, type Request } from '../domains/domains.service';
import { ApiError } from '../http/api-error';
import { mailboxIdForm } from './mailbox.dto';

type Choices = Pick<CreateMailbox['data'], 'provider' | 'displayName'>;

/** Executes what customers ask for their mailboxes. Provisioning follows the events to update the mail server. */
@Injectable()
export class Mailboxes {
  constructor(
    private readonly commands: Commands,
    private readonly domains: DomainsReadModel,
    private readonly mailboxes: MailboxesReadModel,
  ) {}

  /**
   * Creates a mailbox. With the id of one that was created before, gives that one.
   *
   * @throws {AddressRefused}
   * @throws {MailboxRuleBroken}
   * @throws {QuotaExceeded}
   */
  async create(id: string, written: string, choices: Choices, request: Request): Promise<MailboxView> {
    const { address, domain } = parseAddress(written);
    const { team } = request.caller;
    const home = domain === sharedDomain ? null : await this.domains.homeOf(domain, team);
    await this.commands.execute(new CreateMailbox(id, { address, team, home, ...choices }, contextOf(request)));
    return this.find(id, team);
  }

  /** @throws {ApiError} `not_found` */
  async find(id: string, team: string): Promise<MailboxView> {
    // An id of another form cannot exist. The database never sees it, since PostgreSQL text cannot contain NUL.
    const view = mailboxIdForm.test(id) ? await this.mailboxes.find(id, team) : undefined;
    if (!view) throw notFound(id);
    return view;
  }

  page(team: string, limit: number, filter: MailboxFilter): Promise<MailboxView[]> {
    return this.mailboxes.page(team, limit, filter);
  }

  suspend(id: string, request: Request): Promise<MailboxView> {
    return this.change(new SuspendMailbox(id, contextOf(request)), request);
  }

  resume(id: string, request: Request): Promise<MailboxView> {
    return this.change(new ResumeMailbox(id, contextOf(request)), request);
  }

  /**
   * Changes what a customer keeps with a mailbox. What is absent stays as it is.
   *
   * @throws {ApiError} `not_found`
   * @throws {MailboxRuleBroken} for a provider on the shared domain.
   */
  update(id: string, choices: Partial<Choices>, request: Request): Promise<MailboxView> {
    return this.change(new UpdateMailbox(id, choices, contextOf(request)), request);
  }

  /** @throws {ApiError} `not_found`, `precondition_failed` */
  async delete(id: string, request: Request): Promise<void> {
    const { version } = await this.find(id, request.caller.team);
    await this.commands.execute(new DeleteMailbox(id, contextOf(request)), request.preconditions?.demand(version));
  }

  /** @throws {ApiError} `not_found`, and what {@link Preconditions.demand} throws. */
  private async change(command: MailboxCommand, { caller, preconditions }: Request): Promise<MailboxView> {
    const { version } = await this.find(command.mailboxId, caller.team);
    await this.commands.execute(command, preconditions?.demand(version));
    return this.find(command.mailboxId, caller.team);
  }
}

const notFound = (id: string) => new ApiError('not_found', `There is no mailbox ${id.slice(0, 100)}.`);
