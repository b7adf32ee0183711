import type { DohClient } from '@app/dns';

/** A name of our own that is always there: where it is not found, the fault is on our side of the DNS (case H21). */
export class Canary {
  /** @param name has a TXT record, whatever it says. */
  constructor(
    private readonly resolvers: readonly Pick<DohClient, 'txt'>[],
    readonly name: string,
  ) {}

  /** True when at least one resolver finds it: the others' silence is then no obstacle. Never rejects. */
  async isFound(): Promise<boolean> {
    const answers = await Promise.all(this.resolvers.map((resolver) => resolver.txt(this.name)));
    return answers.some(({ kind }) => kind === 'records');
  }
}
