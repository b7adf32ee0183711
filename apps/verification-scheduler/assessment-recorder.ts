import { Logger } from '@nestjs/common';
import type { Commands } from '@app/commands';
import type { CommandContext } from '@app/decider';
import { RecordCheck, RequestIdentityRepair } from '@app/mail-domain';
import type { AssessedDomain, FaultyIdentity } from './looks';
import type { Outcome } from './metrics';
import { hasSomethingToLose } from './watched-domain';
import type { WatchedDomains } from './watched-domains';

/** Records assessments by commands. */
export class AssessmentRecorder {
  private readonly logger = new Logger(AssessmentRecorder.name);

  constructor(
    private readonly commands: Pick<Commands, 'execute'>,
    private readonly watchedDomains: Pick<WatchedDomains, 'refresh' | 'isOvertaken'>,
    /** Milliseconds since the epoch. */
    private readonly clock: () => number,
  ) {}

  /**
   * Records the assessment and gives the outcome. The cycle's number makes a second assessment in the same cycle have
   * no effect, such as when a slot is run again or by two schedulers. Never rejects.
   */
  async record({ domain, assessment, lookedAt }: AssessedDomain, cycle: number): Promise<Outcome> {
    const { id } = domain;
    const check = {
      ...assessment,
      of: domain,
      hadNothingToLose: !hasSomethingToLose(domain),
      trigger: 'scheduled' as const,
      cycle,
      lookedAt: new Date(lookedAt).toISOString(),
    };
    try {
      if (await this.watchedDomains.isOvertaken(id, lookedAt)) return 'unchanged';
      const command = new RecordCheck(id, check, this.contextOf(id, cycle));
      const { state, version, events } = await this.commands.execute(command);
      await this.watchedDomains.refresh(id, state, version);
      const types = new Set(events.map(({ type }) => type));
      if (types.has('DomainVerified')) return 'verified';
      if (types.has('VerificationLapsed')) return 'lapsed';
      if (types.has('VerificationFailed')) return 'failed';
      return types.size > 0 ? 'changed' : 'unchanged';
    } catch (error) {
      this.logger.warn(`${id} could not be judged: ${(error as Error).message}`);
      return 'error';
    }
  }

  /**
   * Requests a repair. Only the first request has an effect until the repair is done. The next cycle repeats a request
   * that failed.
   */
  async requestRepair({ id, fault }: FaultyIdentity, cycle: number): Promise<void> {
    try {
      await this.commands.execute(new RequestIdentityRepair(id, { fault }, this.contextOf(id, cycle)));
    } catch (error) {
      this.logger.warn(`The repair of ${id} in SES could not be asked for: ${(error as Error).message}`);
    }
  }

  private contextOf(id: string, cycle: number): CommandContext {
    const at = new Date(this.clock()).toISOString();
    return { at, actor: 'verification-scheduler', correlationId: `${id}/cycle/${cycle}` };
  }
}
