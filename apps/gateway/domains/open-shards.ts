import { ShardClosed } from '@app/commands';
import type { ShardUse, StoredShards } from '@app/read-model';
import { CounterpartAlarm, queriedGauge } from '@app/runtime';

/** Thrown when no shard of SES takes new domains. Nothing was appended. */
export class AllShardsClosed extends Error {
  override readonly name = 'AllShardsClosed';
  constructor(readonly shards: readonly ShardUse[]) {
    super(`No shard of SES takes new domains: ${shards.map(whyClosed).join('; ')}.`);
  }
}

/** The share of its capacity from which an operator is alarmed about a shard. */
const nearlyFull = 0.8;

/** Milliseconds between two looks at how full the shards are. */
const lookEveryMs = 60_000;

/** The most shards that an add tries, each of which others have filled or closed since it was chosen. */
const attempts = 20;

/** Chooses the shards of SES of new domains, of those that take any, by the room that they have. */
export class OpenShards {
  private readonly alarm = new CounterpartAlarm('ses');
  private lookedAt = -Infinity;

  constructor(private readonly stored: Pick<StoredShards, 'uses' | 'chooseOpen'>) {
    measure(stored);
  }

  /** Chooses the shard that `inOne` tries first, before it is known whether there is an add; undefined for none. */
  first(): Promise<string | undefined> {
    return this.stored.chooseOpen();
  }

  /**
   * Has a domain added to a shard that takes it.
   *
   * @param add makes the add, and throws `ShardClosed` where the shard takes no more by then.
   * @param first as the method of that name gives it.
   * @throws {AllShardsClosed} and whatever `add` throws.
   */
  async inOne<T>(add: (sesShard: string) => Promise<T>, first = this.first()): Promise<T> {
    void this.alarmOfNearlyFull();
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const shard = await (attempt === 1 ? first : this.stored.chooseOpen());
      if (shard === undefined) break;
      try {
        return await add(shard);
      } catch (error) {
        if (!(error instanceof ShardClosed)) throw error;
      }
    }
    throw new AllShardsClosed(await this.stored.uses());
  }

  private async alarmOfNearlyFull(): Promise<void> {
    const now = performance.now();
    if (now - this.lookedAt < lookEveryMs) return;
    this.lookedAt = now;
    const uses = await this.stored.uses().catch(() => []);
    const full = uses.filter(({ identities, capacity }) => capacity !== null && identities >= capacity * nearlyFull);
    if (full.length === 0) return;
    const said = full.map(({ name, identities, capacity }) => `${name} has ${identities} of ${capacity}`).join('; ');
    this.alarm.raise('shard_nearly_full', `Shards of SES are nearly full: ${said}. Add another one to SES_SHARDS.`);
  }
}

function whyClosed({ name, identities, capacity, isDraining, isFailing, lastError }: ShardUse): string {
  if (isDraining) return `${name} is drained`;
  if (capacity !== null && identities >= capacity) return `${name} has ${identities} of ${capacity} identities`;
  return isFailing ? `${name} fails (${lastError})` : `${name} has just changed`;
}

function measure(stored: Pick<StoredShards, 'uses'>): void {
  const gauge = (name: string, help: string, value: (use: ShardUse) => number) =>
    queriedGauge({ name, help, labelNames: ['shard'] }, async () =>
      (await stored.uses()).map((use) => ({ labels: { shard: use.name }, value: value(use) })),
    );
  gauge('sendmux_ses_shard_identities', 'Identities of a shard of SES', ({ identities }) => identities);
  gauge('sendmux_ses_shard_capacity', 'The most identities that a shard may have', ({ capacity }) => capacity ?? 0);
  gauge('sendmux_ses_shard_draining', '1 while a shard takes no new domains by the word of an operator', (use) =>
    Number(use.isDraining),
  );
  gauge(
    'sendmux_ses_shard_failing',
    '1 while a shard takes no new domains because SES refuses us or is silent',
    (use) => Number(use.isFailing),
  );
}
