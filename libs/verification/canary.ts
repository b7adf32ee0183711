import { Logger } from '@nestjs/common';
import type { DohClient } from '@app/dns';

/**
 * A name of our own that is always there: where it is not found, the fault is on our side of the DNS (case H21). One that
 * has never been found yet is not published: it tells whether the resolvers answer, and no more.
 */
export class Canary {
  private readonly logger = new Logger(Canary.name);
  private published: boolean | undefined;

  /** @param name has a TXT record, whatever it says. */
  constructor(
    private readonly resolvers: readonly Pick<DohClient, 'txt'>[],
    readonly name: string,
  ) {}

  /** True when at least one resolver finds it: the others' silence is then no obstacle. Never rejects. */
  async isFound(): Promise<boolean> {
    const answers = await Promise.all(this.resolvers.map((resolver) => resolver.txt(this.name)));
    if (answers.some(({ kind }) => kind === 'records')) return (this.published = true);
    const denied = answers.some(({ kind }) => kind === 'nodata' || kind === 'nxdomain');
    if (this.published || !denied) return false;
    if (this.published === undefined)
      this.logger.warn(
        `${this.name} has no TXT record. Publish one, or set VERIFICATION_CANARY: without it, resolvers that wrongly deny every name are noticed late`,
      );
    this.published = false;
    return true;
  }
}
