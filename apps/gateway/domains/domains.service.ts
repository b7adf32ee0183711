import { Injectable } from '@nestjs/common';
import { CommandBus } from '@nestjs/cqrs';
import { Histogram } from 'prom-client';
import type { Caller } from '@app/accounts';
import { DomainCommandHandler, type Decided } from '@app/commands';
import { EventStore } from '@app/event-store';
import {
  AddDomain,
  ChooseDomainOutboundProvider,
  domainEvent,
  DomainRuleBroken,
  evolve,
  FailProvisioning,
  RequestDeletion,
  type CommandContext,
  type DomainCommand,
  type MailDomain,
  type ProvisioningFailed,
} from '@app/mail-domain';
import { domainView, DomainsReadModel, type DomainView } from '@app/read-model';
import { ApiError } from '../http/api-error';
import { domainIdForm } from './domain.dto';
import { Outcomes, type Expectation } from './outcomes.service';

/** Provisioning says itself that its deadline has passed; this much later, in milliseconds, the gateway does. */
const graceMs = 1_000;
/** How long a DELETE waits for the domain to be gone, in milliseconds. */
const deletionPatienceMs = 15_000;

const provisioningWait = new Histogram({
  name: 'sendmux_provisioning_wait_seconds',
  help: 'How long POST /domains waited for the outcome of the provisioning',
  labelNames: ['outcome'],
  buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60],
});

export interface Request {
  readonly caller: Caller;
  readonly requestId: string;
}

export interface DomainsOptions {
  /** From the add to the outcome, in milliseconds. */
  readonly provisioningDeadlineMs: number;
}

/** What customers do with their domains: commands go out, and their outcome is waited for. */
@Injectable()
export class Domains {
  constructor(
    private readonly commands: CommandBus,
    private readonly handler: DomainCommandHandler,
    private readonly store: EventStore,
    private readonly readModel: DomainsReadModel,
    private readonly outcomes: Outcomes,
    private readonly options: DomainsOptions,
  ) {}

  /** The longest that `add` may take, in milliseconds. */
  get addTakesAtMostMs(): number {
    return this.options.provisioningDeadlineMs + 5 * graceMs;
  }

  /**
   * Adds a domain and waits until it is provisioned or rolled back. With the id of an add that was begun before, goes on
   * where that one stands.
   *
   * @throws {ApiError} `conflict`, `provisioning_failed`, `provisioning_timeout`, `service_unavailable`
   */
  async add(id: string, name: string, { caller, requestId }: Request): Promise<DomainView> {
    await this.refuseWhenHeld(id, name, caller.team);
    const expectation = this.outcomes.expect(id, ['DomainProvisioned', 'ProvisioningFailed']);
    try {
      const now = Date.now();
      const deadline = new Date(now + this.options.provisioningDeadlineMs).toISOString();
      const context = contextOf({ caller, requestId }, now);
      const added = await this.execute(new AddDomain(id, { name, team: caller.team, deadline }, context));
      const timer = provisioningWait.startTimer();
      const { state, version } = await this.outcome(id, added, expectation, context);
      timer({ outcome: state.status });
      return await this.provisionedOr(state, version, id, name);
    } catch (error) {
      // Lost the race for the name after the look: look again, to say who holds it.
      if (error instanceof DomainRuleBroken && error.code === 'conflict')
        await this.refuseWhenHeld(id, name, caller.team);
      throw error;
    } finally {
      expectation.drop();
    }
  }

  /** @throws {ApiError} `not_found` */
  async find(id: string, team: string): Promise<DomainView> {
    // What cannot be an id is none, and never reaches the database, which takes no NUL.
    const view = domainIdForm.test(id) ? await this.readModel.find(id, team) : undefined;
    if (!view) throw notFound(id);
    return view;
  }

  page(team: string, limit: number, before?: string): Promise<DomainView[]> {
    return this.readModel.page(team, limit, before);
  }

  /**
   * Asks for the deletion, or joins one that is under way, and waits until the domain is gone.
   *
   * @throws {ApiError} `not_found`, and `service_unavailable` while the deletion goes on.
   */
  async delete(id: string, request: Request): Promise<DomainView> {
    const view = await this.find(id, request.caller.team);
    const gone = this.outcomes.expect(id, ['DomainDeleted']);
    try {
      await this.execute(new RequestDeletion(id, contextOf(request)));
      const deleted =
        (await gone.within(deletionPatienceMs)) ?? (await this.handler.load(id)).state.status === 'deleted';
      if (deleted) return view;
    } finally {
      gone.drop();
    }
    throw new ApiError(
      'service_unavailable',
      `${view.name} is being deleted, and that goes on by itself. Send DELETE again to hear when it is done.`,
      { retryAfter: 5 },
    );
  }

  /** @throws {ApiError} `not_found`; {DomainRuleBroken} `conflict` of a domain that is being deleted. */
  async chooseProvider(id: string, provider: string | null, request: Request): Promise<DomainView> {
    const { caller } = request;
    await this.find(id, caller.team);
    await this.execute(new ChooseDomainOutboundProvider(id, { provider }, contextOf(request)));
    return this.find(id, caller.team);
  }

  /** The state after the outcome; at the deadline without one, the gateway itself ends the provisioning. */
  private async outcome(
    id: string,
    { state, version }: Pick<Decided, 'state' | 'version'>,
    expectation: Expectation,
    context: CommandContext,
  ): Promise<Pick<Decided, 'state' | 'version'>> {
    if (state.status !== 'provisioning') return { state, version };
    const event = await expectation.within(Date.parse(state.deadline) + graceMs - Date.now());
    if (event && event.version === version + 1)
      return { state: evolve(state, domainEvent(event)), version: event.version };
    if (Date.now() < Date.parse(state.deadline)) return this.handler.load(id);
    const reason = 'Nothing has answered in time.';
    const at = new Date().toISOString();
    const ours = { ...context, at, actor: 'gateway' };
    return this.execute(new FailProvisioning(id, { step: 'mail_server', kind: 'deadline', reason }, ours));
  }

  private async provisionedOr(state: MailDomain, version: number, id: string, name: string): Promise<DomainView> {
    switch (state.status) {
      case 'pending':
      case 'verified':
      case 'failed':
      case 'deleting':
        return domainView(state, version)!;
      case 'rolling_back':
        throw provisioningError(name, state.failure, 'being rolled back');
      case 'rolled_back': {
        const events = (await this.store.readStream(id)).map(domainEvent);
        const failed = events.find((event) => event.type === 'ProvisioningFailed')!;
        throw provisioningError(name, failed.data, 'rolled back');
      }
      case 'deleted':
        throw new ApiError('conflict', `${id} was added by this Idempotency-Key and has been deleted since.`);
      case 'absent':
      case 'provisioning':
        throw new ApiError('service_unavailable', `${name} is still being provisioned. Ask for it again shortly.`, {
          retryAfter: 5,
        });
    }
  }

  /** @throws {ApiError} `conflict`, which never says whose a name is. */
  private async refuseWhenHeld(id: string, name: string, team: string): Promise<void> {
    const holder = await this.readModel.holderOf(name);
    if (!holder || holder.id === id) return;
    const conflict = (message: string, soon = false) =>
      new ApiError('conflict', message, { param: 'domain', ...(soon && { retryable: true, retryAfter: 5 }) });
    if (holder.status === 'rolling_back')
      throw conflict(`An attempt to add ${name} failed and is being rolled back. Try again shortly.`, true);
    if (holder.status === 'deleting') throw conflict(`${name} is being deleted. Try again shortly.`, true);
    if (holder.team !== team) throw conflict(`${name} is in use and cannot be added.`);
    if (holder.status === 'provisioning') throw conflict(`Your team is just adding ${name}, as ${holder.id}.`);
    throw conflict(`Your team has ${name} already, as ${holder.id}.`);
  }

  private execute(command: DomainCommand): Promise<Decided> {
    return this.commands.execute<DomainCommand, Decided>(command);
  }
}

export const contextOf = ({ caller, requestId }: Request, now = Date.now()): CommandContext => ({
  at: new Date(now).toISOString(),
  actor: caller.keyId,
  requestId,
  correlationId: requestId,
});

export const notFound = (id: string) => new ApiError('not_found', `There is no domain ${id.slice(0, 100)}.`);

const parts = { mail_server: 'the mail server', ses: 'Amazon SES' } as const;

function provisioningError(
  name: string,
  { step, kind, reason }: ProvisioningFailed['data'],
  now: 'being rolled back' | 'rolled back',
): ApiError {
  const errors = [{ code: `${step}_${kind}`, message: reason }];
  if (kind === 'deadline')
    return new ApiError(
      'provisioning_timeout',
      `${name} was not provisioned in time, and all of it is ${now}: ${reason}`,
      {
        retryAfter: 10,
        errors,
      },
    );
  const message = `${name} was refused by ${parts[step]}, and all of it is ${now}: ${reason}`;
  return new ApiError('provisioning_failed', message, { errors });
}
