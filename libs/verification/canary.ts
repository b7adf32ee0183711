import { Logger } from '@nestjs/common';
import type { DohClient } from '@app/dns';

/**
 * Asks for a name of ours that always exists, so that when it is not found the fault is on our side of the DNS (case
 * H21). A canary that has never been found counts as not published; it then only shows whether the resolvers answer.
 */
export class Canary {
  private readonly logger = new Logger(Canary.name);
  private published: boolean | undefined;

  /** @param name has a TXT record with any content. */
  constructor(
    private readonly resolvers: readonly Pick<DohClient, 'txt'>[],
    readonly name: string,
  ) {}

  /** Gives true when at least one resolver finds the name, since one that does is enough for looks. Never rejects. */
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
