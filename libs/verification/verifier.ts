import type { DohClient } from '@app/dns';
import {
  judge,
  spfQuestion,
  type Answer,
  type Assessment,
  type DkimAnswer,
  type DnsAnswers,
  type Expected,
  type TxtRr,
} from '@app/mail-domain';
import type { SesIdentities, SesIdentity } from '@app/ses';

/** What was asked, what was said, and what it comes to. */
export interface Look {
  /** By check, one answer a resolver, in the order of the resolvers. */
  readonly answers: DnsAnswers;
  /** What SES says of the domain; null where it was not asked, or did not tell. */
  readonly identity: SesIdentity | null;
  readonly assessment: Assessment;
}

/** Asks the resolvers and SES what they have of a domain, and hands the answers to the verdicts. Decides nothing itself. */
export class Verifier {
  /** @param resolvers independent of each other; each is asked every question. */
  constructor(
    private readonly resolvers: readonly Pick<DohClient, 'mx' | 'txt'>[],
    private readonly ses: Pick<SesIdentities, 'get'>,
  ) {}

  /**
   * One look: four questions to each resolver and one to SES, all at once; an SPF record that lacks our includes is followed
   * to where it leads, ten names at most. Never throws: what cannot be asked is `indeterminate`.
   *
   * @param dkim what SES says, where the caller knows it already.
   */
  async check(domain: Expected, dkim?: DkimAnswer): Promise<Assessment> {
    return dkim ? judge(domain, await this.dns(domain), dkim) : (await this.look(domain)).assessment;
  }

  /** The same look, with all that was said, for those who explain it. Never throws. */
  async look(domain: Expected): Promise<Look> {
    const [answers, identity] = await Promise.all([this.dns(domain), this.identity(domain)]);
    const assessment = judge(domain, answers, dkimAnswer(identity));
    return { answers, identity: typeof identity === 'string' ? null : identity, assessment };
  }

  private async dns({ name }: Expected): Promise<DnsAnswers> {
    const startedAt = performance.now();
    const said = await Promise.all(
      this.resolvers.map((resolver) =>
        Promise.all([
          resolver.mx(name),
          resolver.txt(name),
          resolver.txt(`_dmarc.${name}`),
          resolver.txt(`_sendmux.${name}`),
        ]),
      ),
    );
    const mx = said.map((answers) => answers[0]);
    const spf = said.map((answers) => answers[1]);
    const dmarc = said.map((answers) => answers[2]);
    const verification = said.map((answers) => answers[3]);
    const spfTargets = new Map<string, readonly Answer<TxtRr>[]>();
    for (;;) {
      const target = spfQuestion({ spf, spfTargets });
      if (target === undefined) return { mx, spf, dmarc, verification, spfTargets };
      const isLate = performance.now() - startedAt > spfPatienceMs;
      spfTargets.set(
        target,
        isLate
          ? [{ kind: 'unreachable', reason: 'not asked in time' }]
          : await Promise.all(this.resolvers.map((resolver) => resolver.txt(target))),
      );
    }
  }

  private async identity(domain: Expected): Promise<SesIdentity | 'unavailable' | 'identity_missing'> {
    try {
      const identity = await this.ses.get(domain.name, { signal: AbortSignal.timeout(sesPatienceMs) });
      // One that signs with other keys says nothing of the records that the customer was told to place.
      return identity && hasTokensOf(domain, identity) ? identity : 'identity_missing';
    } catch {
      // Whatever it was, SES did not tell; the finding says so.
      return 'unavailable';
    }
  }
}

const hasTokensOf = ({ dkimTokens }: Expected, { tokens }: SesIdentity): boolean =>
  [...tokens].sort().join() === [...dkimTokens].sort().join();

const dkimAnswer = (identity: SesIdentity | 'unavailable' | 'identity_missing'): DkimAnswer =>
  typeof identity === 'string' ? identity : identity.status;

/** How long a customer's request waits for a turn at SES and for its answer, in milliseconds. */
const sesPatienceMs = 10_000;
/** How long one look follows an SPF record, in milliseconds. */
const spfPatienceMs = 10_000;
