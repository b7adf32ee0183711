import { Injectable } from '@nestjs/common';
import { Commands, DomainCommandHandler } from '@app/commands';
import { ChangeSenderFilters, isLive, noSenderFilters, type MailDomain, type SenderFilterMode } from '@app/mail-domain';
import { canonicalRules, type SenderRule } from '@app/mailbox';
import { senderRulesLookMs, senderRulesTasks, StoredSenderRules } from '@app/sender-rules';
import { TaskList } from '@app/tasks';
import { ApiError } from '../http/api-error';
import { contextOf, Domains, type Request } from './domains.service';

/** What a domain does with senders, and the version of the domain at which it was read. */
export interface Filters {
  readonly mode: string;
  readonly rules: readonly SenderRule[];
  readonly version: number;
}

/** Attempts to read rules that are replaced at the same time. */
const attempts = 3;

/** Reads and replaces the rules by which the mailboxes of a domain take mail from some senders. */
@Injectable()
export class SenderFilters {
  constructor(
    private readonly domains: Domains,
    private readonly commands: Commands,
    private readonly handler: DomainCommandHandler,
    private readonly stored: StoredSenderRules,
    private readonly tasks: TaskList,
  ) {}

  /** @throws {ApiError} `not_found`, `conflict` for a domain that only sends */
  async find(id: string, team: string): Promise<Filters> {
    const view = await this.domains.find(id, team);
    if (view.mode === 'send_only')
      throw new ApiError('conflict', `${view.name} only sends, and receives nothing that could be filtered.`);
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const { state, version } = await this.handler.load(id);
      const { mode, digest, rules: count } = filtersOf(state);
      const rules = count === 0 ? [] : await this.stored.find(id, digest);
      if (rules) return { mode, rules, version };
    }
    throw new ApiError('service_unavailable', 'The rules are being replaced. Try again shortly.', { retryAfter: 1 });
  }

  /**
   * @throws {ApiError} `not_found`, and what `Preconditions.demand` throws
   * @throws {DomainRuleBroken} `conflict` for a domain that only sends, or is being deleted
   * @throws {SenderRuleRefused}
   */
  async replace(id: string, mode: SenderFilterMode, rules: readonly SenderRule[], request: Request): Promise<Filters> {
    const view = await this.domains.find(id, request.caller.team);
    const ifVersion = request.preconditions?.demand(view.version);
    const canonical = canonicalRules(rules);
    // Whatever becomes of this change, rules that nothing names are erased in time.
    const later = new Date(Date.now() + senderRulesLookMs);
    await this.tasks.put(senderRulesTasks, id, 'Erase', { requestId: request.requestId }, later);
    const digest = await this.stored.put(id, canonical);
    const data = { mode, rules: canonical.length, digest };
    const { state, version } = await this.commands.execute(
      new ChangeSenderFilters(id, data, contextOf(request)),
      ifVersion,
    );
    await this.stored.eraseOthers(id, filtersOf(state).digest);
    return { mode, rules: canonical, version };
  }
}

const filtersOf = (state: MailDomain) => (isLive(state) && state.senderFilters) || noSenderFilters;
