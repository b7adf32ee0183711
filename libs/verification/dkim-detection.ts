import { Logger } from '@nestjs/common';
import type { Expected } from '@app/mail-domain';
import type { SesIdentities } from '@app/ses';

/** How long a customer's request waits for SES, in milliseconds. */
const patienceMs = 10_000;

/** SES's own look-out for the DKIM records, which ends after 72 hours. */
export class DkimDetection {
  private readonly logger = new Logger(DkimDetection.name);

  constructor(private readonly ses: Pick<SesIdentities, 'restartDkim'>) {}

  /**
   * Has SES look anew for the records that it has given up on (case F5): the status is `pending` then, so that this happens
   * once each time that it gives up. Never throws.
   *
   * @returns whether SES looks again, and for the same records.
   */
  async restart({ name, dkimTokens }: Expected): Promise<boolean> {
    try {
      const tokens = await this.ses.restartDkim(name, { signal: AbortSignal.timeout(patienceMs) });
      const isSame = tokens !== null && [...tokens].sort().join() === [...dkimTokens].sort().join();
      if (!isSame) this.logger.error(`SES looks for other DKIM records of ${name} than its team was told`);
      return isSame;
    } catch (error) {
      this.logger.warn(`SES did not begin anew with the DKIM records of ${name}: ${(error as Error).message}`);
      return false;
    }
  }
}
