import type { DohClient } from '@app/dns';
import { judge, type Assessment, type DkimAnswer, type Expected } from '@app/mail-domain';
import type { SesIdentities } from '@app/ses';

/** Asks the resolvers and SES what they have of a domain, and hands the answers to the verdicts. Decides nothing itself. */
export class Verifier {
  /** @param resolvers independent of each other; each is asked every question. */
  constructor(
    private readonly resolvers: readonly Pick<DohClient, 'mx' | 'txt'>[],
    private readonly ses: Pick<SesIdentities, 'get'>,
  ) {}

  /**
   * One look: four questions to each resolver and one to SES, all at once. Never throws: what cannot be asked is
   * `indeterminate`.
   *
   * @param dkim what SES says, where the caller knows it already.
   */
  async check(domain: Expected, dkim?: DkimAnswer): Promise<Assessment> {
    const { name } = domain;
    const ask = <Answer>(question: (resolver: Pick<DohClient, 'mx' | 'txt'>) => Promise<Answer>) =>
      Promise.all(this.resolvers.map(question));
    const [mx, spf, dmarc, verification, status] = await Promise.all([
      ask((resolver) => resolver.mx(name)),
      ask((resolver) => resolver.txt(name)),
      ask((resolver) => resolver.txt(`_dmarc.${name}`)),
      ask((resolver) => resolver.txt(`_sendmux.${name}`)),
      dkim ?? this.dkimStatus(name),
    ]);
    return judge(domain, { mx, spf, dmarc, verification }, status);
  }

  private async dkimStatus(name: string): Promise<DkimAnswer> {
    try {
      return (await this.ses.get(name, { signal: AbortSignal.timeout(sesPatienceMs) }))?.status ?? 'identity_missing';
    } catch {
      // Whatever it was, SES did not tell; the finding says so.
      return 'unavailable';
    }
  }
}

/** How long a customer's request waits for a turn at SES and for its answer, in milliseconds. */
const sesPatienceMs = 10_000;
