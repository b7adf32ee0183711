import { Injectable, Logger } from '@nestjs/common';
import { CommandBus } from '@nestjs/cqrs';
import type { Decided } from '@app/commands';
import {
  isLive,
  isUndecided,
  RecordCheck,
  RequestIdentityRepair,
  type Assessment,
  type IdentityFault,
  type SesExplanation,
} from '@app/mail-domain';
import type { DomainView } from '@app/read-model';
import { DkimDetection, Explainer, Verifier, type Look } from '@app/verification';
import { ApiError } from '../http/api-error';
import { contextOf, notFound, type Request } from './domains.service';
import { presentVerification, type VerificationSchema } from './verification.dto';

/** Looks at one domain that its team can set going within the window; whoever asks more often gets the last one again. */
const looksAWindow = 10;
const windowMs = 10_000;
/** Domains that are kept in mind before those whose window is over are forgotten. */
const rememberedDomains = 1_000;
/** Domains whose repair one process asks for within an hour. */
const repairsAnHour = 10;
/** How long SES looks for the DKIM records by itself, in milliseconds. */
const sesPatienceMs = 72 * 3_600_000;

/** What SES has to be repaired of, by code. */
const faults: Partial<Record<string, IdentityFault>> = {
  ses_identity_missing: 'missing',
  dkim_not_started: 'not_started',
};

interface Recent {
  /** When looks began, by `performance.now()`. */
  begun: number[];
  /** The last one, that may still be under way. */
  look: Promise<VerificationSchema>;
  isUnderWay: boolean;
}

/** Looks when a customer asks, records what was found, and explains it. */
@Injectable()
export class Verifications {
  private readonly logger = new Logger(Verifications.name);
  private readonly recent = new Map<string, Recent>();
  /** Domains that SES was found to have lost, and when, by `performance.now()`. */
  private readonly lost = new Map<string, number>();

  constructor(
    private readonly commands: CommandBus,
    private readonly verifier: Verifier,
    private readonly explainer: Explainer,
    private readonly dkimDetection: DkimDetection,
  ) {}

  /**
   * Requests for one domain at the same time share one look; more than ten within ten seconds get the last one again
   * (case G10). `checked_at` says when it was.
   *
   * @throws {ApiError} `not_found`, `conflict`, and `service_unavailable` when nobody could tell: nothing has changed then.
   */
  verify(view: DomainView, request: Request): Promise<VerificationSchema> {
    const now = performance.now();
    const before = this.recent.get(view.id);
    if (before?.isUnderWay) return before.look;
    const begun = (before?.begun ?? []).filter((at) => now - at < windowMs);
    if (before && begun.length >= looksAWindow) return before.look;
    this.forgetOld(now);
    const recent: Recent = { begun: [...begun, now], look: this.look(view, request), isUnderWay: true };
    this.recent.set(view.id, recent);
    const settle = () => (recent.isUnderWay = false);
    recent.look.then(settle, settle);
    return recent.look;
  }

  private forgetOld(now: number): void {
    if (this.recent.size < rememberedDomains) return;
    for (const [id, { begun, isUnderWay }] of this.recent)
      if (!isUnderWay && begun.every((at) => now - at >= windowMs)) this.recent.delete(id);
  }

  /** Somebody removes one identity by hand, or a few. Where all are gone, this is another account or Region, and none is made there. */
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

  private async look(view: DomainView, request: Request): Promise<VerificationSchema> {
    if (view.status === 'deleting')
      throw new ApiError('conflict', `${view.name} is being deleted and can no longer be verified.`);
    const look = await this.verifier.look(view);
    const { assessment } = look;
    const context = contextOf(request);
    const fault = faults[assessment.findings.find(({ check }) => check === 'dkim')!.code];
    if (fault && this.mayBeAsked(view))
      await this.commands.execute(new RequestIdentityRepair(view.id, { fault }, context));
    if (isUndecided(assessment)) throw undecided(assessment);
    const check = new RecordCheck(view.id, { ...assessment, trigger: 'requested', cycle: null }, context);
    const { state } = await this.commands.execute<RecordCheck, Decided>(check);
    if (!isLive(state)) throw notFound(view.id);
    const isRestarted = look.identity?.status === 'failed' && (await this.dkimDetection.restart(view));
    const ses = sesExplanation(view, look, isRestarted, context.at);
    const explained = await this.explainer.explain(view, look, ses);
    return presentVerification(state, assessment, explained, ses, new Date(context.at));
  }
}

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

function sesExplanation(
  { createdAt }: DomainView,
  { identity }: Look,
  isRestarted: boolean,
  now: string,
): SesExplanation | null {
  if (!identity) return null;
  const { errorType, lastCheckedAt } = identity.verification;
  const begun = isRestarted ? Date.parse(now) : createdAt.getTime();
  return { errorType, lastCheckedAt, deadline: new Date(begun + sesPatienceMs), isRestarted };
}
