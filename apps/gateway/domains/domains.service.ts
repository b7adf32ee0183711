import { Injectable } from '@nestjs/common';
import { Histogram } from '@app/runtime';
import type { Caller } from '@app/accounts';
import { Commands, DomainCommandHandler, type Decided } from '@app/commands';
import type { CommandContext } from '@app/decider';
import {
  AddDomain,
  ChooseDomainOutboundProvider,
  domainEvent,
  DomainRuleBroken,
  EnableReceiving,
  evolve,
  FailProvisioning,
  provisioningFailure,
  RequestDeletion,
  type MailDomain,
  type ProvisioningFailed,
} from '@app/mail-domain';
import { EventStore } from '@app/event-store';
import type { DomainMode } from '@app/mail-records';
import { domainView, DomainsReadModel, type DomainFilter, type DomainView } from '@app/read-model';
import { ApiError } from '../http/api-error';
import type { Preconditions } from '../http/preconditions';
import { domainIdForm } from './domain.dto';
import { AllShardsClosed, type OpenShards } from './open-shards';
import { Outcomes, type Expectation } from './outcomes.service';

/**
 * Milliseconds after the provisioning deadline at which the gateway records the timeout itself, in case provisioning
 * has not.
 */
const graceMs = 1_000;
/** Milliseconds that a DELETE waits for the domain to be deleted. */
const deletionPatienceMs = 15_000;

const provisioningWait = new Histogram({
  name: 'sendmux_provisioning_wait_seconds',
  help: 'How long POST /domains waited for the outcome of the provisioning',
  labelNames: ['outcome'],
  buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60],
});

/** Who asks: an API key, or a setup link by its id. */
export type Asker = Pick<Caller, 'keyId' | 'team'>;

export interface Request {
  readonly caller: Asker;
  readonly requestId: string;
  /** What the request demands of the version that it changes; absent where it changes none. */
  readonly preconditions?: Preconditions;
}

export interface DomainsOptions {
  /** Milliseconds from the add to its outcome. */
  readonly provisioningDeadlineMs: number;
}

/** Executes what customers ask for their domains: sends commands and waits for the outcome of other processes. */
@Injectable()
export class Domains {
  constructor(
    private readonly commands: Commands,
    private readonly handler: DomainCommandHandler,
    private readonly store: EventStore,
    private readonly readModel: DomainsReadModel,
    private readonly outcomes: Outcomes,
    private readonly shards: Pick<OpenShards, 'first' | 'inOne'>,
    private readonly options: DomainsOptions,
  ) {}

  /** The longest that `add` may take, in milliseconds. */
  get addTakesAtMostMs(): number {
    return this.options.provisioningDeadlineMs + 5 * graceMs;
  }

  /**
   * Adds a domain and waits until it is provisioned or rolled back. With the id of an add that was begun before,
   * continues that add.
   *
   * @throws {ApiError} `conflict`, `provisioning_failed`, `provisioning_timeout`, `service_unavailable`
   * @throws {QuotaExceeded}, {InstallationFull} and {AllShardsClosed}
   */
  async add(id: string, name: string, mode: DomainMode, { caller, requestId }: Request): Promise<DomainView> {
    const shard = this.shards.first();
    shard.catch(() => undefined);
    await this.refuseWhenHeld(id, name, caller.team);
    const expectation = this.outcomes.expect(id, ['DomainProvisioned', 'ProvisioningFailed']);
    try {
      const now = Date.now();
      const deadline = new Date(now + this.options.provisioningDeadlineMs).toISOString();
      const context = contextOf({ caller, requestId }, now);
      const data = { name, team: caller.team, deadline, ...(mode === 'send_only' && { mode }) };
      const added = await this.addedToAShard(
        id,
        shard,
        (sesShard) => new AddDomain(id, { ...data, sesShard }, context),
      );
      const timer = provisioningWait.startTimer();
      const { state, version } = await this.outcome(id, added, expectation, context);
      timer({ outcome: state.status });
      return await this.provisionedOr(state, version, id, name);
    } catch (error) {
      // Another request took the name after the first check: check again, to give the right reason.
      if (error instanceof DomainRuleBroken && error.code === 'conflict')
        await this.refuseWhenHeld(id, name, caller.team);
      throw error;
    } finally {
      expectation.drop();
    }
  }

  /** Adds the domain to a shard that takes it. An add that was begun before goes on, whatever shards take by now. */
  private async addedToAShard(
    id: string,
    first: Promise<string | undefined>,
    command: (sesShard: string) => AddDomain,
  ): Promise<Pick<Decided, 'state' | 'version'>> {
    try {
      return await this.shards.inOne((shard) => this.commands.execute(command(shard)), first);
    } catch (error) {
      if (!(error instanceof AllShardsClosed)) throw error;
      const begun = await this.handler.load(id);
      if (begun.state.status === 'absent') throw error;
      return begun;
    }
  }

  /** @throws {ApiError} `not_found` */
  async find(id: string, team: string): Promise<DomainView> {
    // An id of another form cannot exist. The database never sees it, since PostgreSQL text cannot contain NUL.
    const view = domainIdForm.test(id) ? await this.readModel.find(id, team) : undefined;
    if (!view) throw notFound(id);
    return view;
  }

  /** Reads the stream of a domain that a command follows on; undefined for an id of another form, or as `ahead`. */
  private async loaded(id: string) {
    return domainIdForm.test(id) ? this.handler.ahead(id) : undefined;
  }

  /** @throws {ApiError} `not_found`, and `conflict` while the domain is being deleted. */
  async findLasting(id: string, team: string): Promise<DomainView> {
    const view = await this.find(id, team);
    if (view.status === 'deleting') throw new ApiError('conflict', `${view.name} is being deleted.`);
    return view;
  }

  page(team: string, limit: number, filter: DomainFilter): Promise<DomainView[]> {
    return this.readModel.page(team, limit, filter);
  }

  /**
   * Requests the deletion, or joins one that is under way, and waits until the domain is deleted.
   *
   * @param begun does what follows from that the domain goes, meanwhile.
   * @throws {ApiError} `not_found`, `precondition_failed`, and `service_unavailable` while the deletion is still under
   * way.
   */
  async delete(id: string, request: Request, begun: (id: string) => Promise<void>): Promise<DomainView> {
    const [view, known] = await Promise.all([this.find(id, request.caller.team), this.loaded(id)]);
    // A DELETE that joins a deletion asks for what is done already (RFC 9110 section 13.1.1).
    const ifVersion = view.status === 'deleting' ? undefined : request.preconditions?.demand(view.version);
    const gone = this.outcomes.expect(id, ['DomainDeleted']);
    try {
      await this.commands.execute(new RequestDeletion(id, contextOf(request)), ifVersion, known);
      const [event] = await Promise.all([gone.within(deletionPatienceMs), begun(id)]);
      if (event ?? (await this.handler.load(id)).state.status === 'deleted') return view;
    } finally {
      gone.drop();
    }
    throw new ApiError(
      'service_unavailable',
      `${view.name} is being deleted, and that goes on by itself. Send DELETE again to hear when it is done.`,
      { retryAfter: 5 },
    );
  }

  /**
   * @throws {ApiError} `not_found`
   * @throws {DomainRuleBroken} `conflict` while the domain is being deleted.
   */
  async chooseProvider(id: string, provider: string | null, request: Request): Promise<DomainView> {
    const { team } = request.caller;
    const ifVersion = request.preconditions?.demand((await this.find(id, team)).version);
    await this.commands.execute(new ChooseDomainOutboundProvider(id, { provider }, contextOf(request)), ifVersion);
    return this.find(id, team);
  }

  /**
   * Lets a domain that only sent receive mail too. One that does already is left as it is.
   *
   * @throws {ApiError} `not_found`, and what {@link Preconditions.demand} throws.
   * @throws {DomainRuleBroken} `conflict` while the domain is being deleted.
   */
  async enableReceiving(id: string, request: Request): Promise<DomainView> {
    const { team } = request.caller;
    const ifVersion = request.preconditions?.demand((await this.find(id, team)).version);
    await this.commands.execute(new EnableReceiving(id, contextOf(request)), ifVersion);
    return this.find(id, team);
  }

  /**
   * Gives the state after the outcome. Records a failed provisioning itself when the deadline passes without an
   * outcome.
   */
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
    const failure = provisioningFailure('mail_server', 'deadline');
    const ours = { ...context, at: new Date().toISOString(), actor: 'gateway' };
    return this.commands.execute(new FailProvisioning(id, failure, ours));
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
      case 'released':
      case 'deleted':
        throw new ApiError('conflict', `${id} was added by this Idempotency-Key and has been deleted since.`);
      case 'absent':
      case 'provisioning':
        throw new ApiError('service_unavailable', `${name} is still being provisioned. Ask for it again shortly.`, {
          retryAfter: 5,
        });
    }
  }

  /** @throws {ApiError} `conflict`, which tells no other team who holds the name. */
  private async refuseWhenHeld(id: string, name: string, team: string): Promise<void> {
    const holder = await this.readModel.holderOf(name);
    if (!holder || holder.id === id) return;
    const conflict = (message: string, soon = false) =>
      new ApiError('conflict', message, { param: 'domain', ...(soon && { retryable: true, retryAfter: 5 }) });
    if (holder.status === 'rolling_back')
      throw conflict(`An attempt to add ${name} failed and is being rolled back. Try again shortly.`, true);
    if (holder.status === 'deleting') throw conflict(`${name} is being deleted. Try again shortly.`, true);
    if (holder.team !== team)
      throw conflict(`${name} is in use and cannot be added. If it is yours, claim it with POST /domains/claims.`);
    if (holder.status === 'provisioning') throw conflict(`Your team is just adding ${name}. Try again shortly.`, true);
    throw conflict(`Your team has ${name} already, as ${holder.id}.`);
  }
}

export const contextOf = ({ caller, requestId }: Request, now = Date.now()): CommandContext => ({
  at: new Date(now).toISOString(),
  actor: caller.keyId,
  requestId,
  correlationId: requestId,
});

export const notFound = (id: string) => new ApiError('not_found', `There is no domain ${id.slice(0, 100)}.`);

/** Seconds after which an add may succeed that a fault of ours has ended: an operator has to act meanwhile. */
const faultOfOursSeconds = 60;

function provisioningError(
  name: string,
  { step, kind, isOurs, reason }: ProvisioningFailed['data'],
  now: 'being rolled back' | 'rolled back',
): ApiError {
  const why = `and all of it is ${now}: ${reason}`;
  if (kind === 'deadline')
    return new ApiError('provisioning_timeout', `${name} was not provisioned in time, ${why}`, {
      retryAfter: 10,
      errors: [{ code: `${step}_deadline`, param: 'domain', message: reason }],
    });
  if (isOurs)
    return new ApiError('service_unavailable', `${name} could not be added just now, ${why}`, {
      retryAfter: faultOfOursSeconds,
      errors: [{ code: `${step}_unavailable`, param: 'domain', message: reason }],
    });
  const errors = [{ code: `${step}_${kind}`, param: 'domain', message: reason }];
  return new ApiError('provisioning_failed', `${name} could not be added, ${why}`, { errors });
}
