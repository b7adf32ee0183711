import { Injectable, Logger } from '@nestjs/common';
import type { CommandContext } from '@app/decider';
import {
  detectionBegunAt,
  isLive,
  RecordCheck,
  RequestIdentityRepair,
  identityFault,
  type MailDomain,
} from '@app/mail-domain';
import { isUndecided, mailFromName, type Assessment, type SesExplanation } from '@app/mail-records';
import { Commands, DomainCommandHandler } from '@app/commands';
import { Checks } from '@app/cycle';
import type { DomainView } from '@app/read-model';
import { span } from '@app/tracing';
import { Explainer, Verifier, type Look } from '@app/verification';
import { ApiError } from '../http/api-error';
import { contextOf, notFound, type Request } from './domains.service';
import { SharedLooks } from './shared-looks';
import { presentVerification, type VerificationSchema } from './verification.dto';

/** Repairs of lost identities that one process requests within an hour. */
const repairsAnHour = 10;
/** Milliseconds for which SES searches for the DKIM records before it gives up. */
const sesPatienceMs = 72 * 3_600_000;

/** Looks at domains when customers ask, records the assessments, and explains them. */
@Injectable()
export class Verifications {
  private readonly logger = new Logger(Verifications.name);
  /** Holds the last looks, by the domain and the records that it wanted. */
  private readonly looks = new SharedLooks<VerificationSchema>();
  /** Domains whose identity SES has lost, with the time of the last requested repair by `performance.now()`. */
  private readonly lost = new Map<string, number>();

  constructor(
    private readonly commands: Commands,
    private readonly handler: DomainCommandHandler,
    private readonly verifier: Verifier,
    private readonly explainer: Explainer,
    private readonly checks: Checks,
  ) {}

  /**
   * Looks at a domain. Concurrent requests for one domain share one look, and after ten looks within ten seconds the
   * last result is given again (case G10). `checked_at` gives the time of the look.
   *
   * @throws {ApiError} `not_found`, `conflict`; `service_unavailable` when the checks are undecided: nothing has
   * changed then.
   */
  verify(view: DomainView, request: Request): Promise<VerificationSchema> {
    return this.looks.share(keyOf(view), () => this.look(view, request));
  }

  /**
   * Gives the time from which another verification can tell more, as the last one said that this process remembers;
   * null where none said so, or it has passed.
   */
  async retryAt(view: DomainView): Promise<string | null> {
    const said = (await this.looks.last(keyOf(view)))?.retry_at ?? null;
    return said !== null && Date.parse(said) > Date.now() ? said : null;
  }

  /**
   * Allows the repair of a lost identity, unless too many were lost within an hour. A few may have been deleted by
   * hand. Where all are missing, this is another account or Region, in which no identities must be created.
   */
  private mayBeAsked({ id, name }: DomainView): boolean {
    const now = performance.now();
    for (const [lost, at] of this.lost) if (now - at > 3_600_000) this.lost.delete(lost);
    if (!this.lost.has(id) && this.lost.size >= repairsAnHour) {
      this.logger.error(
        `Amazon SES has lost ${name} too, and ${repairsAnHour} others within an hour: is this another account or Region?`,
      );
      return false;
    }
    this.lost.set(id, now);
    return true;
  }

  /**
   * Requests the repair of an identity that SES does not have as it should. What SES has given up to look for is not
   * counted against the hourly limit: the domain model limits how often the detection of DKIM records is restarted, and
   * that of MAIL FROM records takes 72 hours each time.
   *
   * @returns the domain after the request; undefined when none is made.
   */
  private async requestRepair(
    view: DomainView,
    { dkim, identity }: Look,
    context: CommandContext,
  ): Promise<MailDomain | undefined> {
    const mailFrom = identity?.mailFrom;
    const isMailFromGivenUp = mailFrom?.status === 'failed' && mailFrom.domain === mailFromName(view.name);
    const fault = identityFault(dkim, 'requested') ?? (isMailFromGivenUp ? 'no_mail_from' : undefined);
    const isLost = fault === 'missing' || fault === 'not_started';
    if (!fault || (isLost && !this.mayBeAsked(view))) return undefined;
    try {
      return (await this.commands.execute(new RequestIdentityRepair(view.id, { fault }, context))).state;
    } catch (error) {
      // The assessment is recorded already, and the next look requests the repair again.
      this.logger.warn(`The repair of ${view.id} in SES could not be asked for: ${(error as Error).message}`);
      return undefined;
    }
  }

  private async look(view: DomainView, request: Request): Promise<VerificationSchema> {
    if (view.status === 'deleting')
      throw new ApiError('conflict', `${view.name} is being deleted and can no longer be verified.`);
    const [look, known] = await Promise.all([this.verifier.look(view), this.handler.ahead(view.id)]);
    const { assessment } = look;
    const context = contextOf(request);
    if (isUndecided(assessment)) {
      await this.requestRepair(view, look, context);
      throw undecided(assessment);
    }
    const data = { ...assessment, trigger: 'requested' as const, cycle: null, of: view };
    const check = new RecordCheck(view.id, data, context);
    const { state, events } = await this.commands.execute(check, undefined, known);
    if (!isLive(state)) throw notFound(view.id);
    if (events.length === 0) await this.checks.noteRequested(view.id, new Date(context.at));
    // The repair is requested after the check is recorded: the status that SES has after the repair is newer than the
    // one of this look.
    const newest = (await this.requestRepair(view, look, context)) ?? state;
    const ses = sesExplanation(newest, look);
    const explained = await span('explain', {}, () => this.explainer.explain(view, look, ses));
    const now = new Date(context.at);
    // Provisioning had an answer of SES before the first look.
    const answeredBefore = view.lastLook?.sesAnswered ? view.checkedAt! : view.createdAt;
    const sesCheckedAt = assessment.sesDkimStatus === null ? answeredBefore : (look.listedAt ?? now);
    return presentVerification(state, assessment, explained, ses, now, sesCheckedAt);
  }
}

/** A domain that wants other records since is looked at anew. */
const keyOf = ({ id, mode, dkimTokens }: DomainView): string => JSON.stringify([id, mode, dkimTokens]);

function undecided({ findings }: Assessment): ApiError {
  const open = findings.filter(({ outcome }) => outcome === 'indeterminate');
  const what = open.map(({ check }) => check).join(', ');
  return new ApiError(
    'service_unavailable',
    `Could not be decided just now: ${what}. Nothing has changed; try again.`,
    {
      retryAfter: 10,
      errors: open.map(({ check, code, message }) => ({ code, param: check, message })),
    },
  );
}

/**
 * Explains the status of SES. A detection that SES had given up may have been restarted, by this request or an earlier
 * one.
 */
function sesExplanation(state: MailDomain, { identity }: Look): SesExplanation | null {
  if (!identity || !isLive(state)) return null;
  const { errorType, lastCheckedAt } = identity.verification;
  const begunAt = detectionBegunAt(state);
  const isRestarted = identity.status === 'failed' && begunAt !== state.addedAt;
  return { errorType, lastCheckedAt, deadline: new Date(Date.parse(begunAt) + sesPatienceMs), isRestarted };
}
