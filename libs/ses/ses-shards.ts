import { defaultShard, type SesShard } from '@app/runtime';
import { SesUnavailable, type Call, type SesIdentities, type SesIdentity } from './ses-identities';
import { ShardHealth, type ShardReports } from './shard-health';

/** Holds a client for each shard of the settings. */
export class SesShards<Client extends SesIdentities = SesIdentities> {
  private readonly clients: ReadonlyMap<string, Client>;

  constructor(shards: readonly SesShard[], clientOf: (shard: SesShard) => Client) {
    this.clients = new Map(shards.map((shard) => [shard.name, clientOf(shard)]));
  }

  /**
   * Gives the client of a shard; of that of domains whose events name none when absent.
   *
   * @throws {SesUnavailable} when the settings of this process do not have the shard: those of another one may.
   */
  of(shard: string = defaultShard): Client {
    const client = this.clients.get(shard);
    if (!client) throw new SesUnavailable(`The settings of this process have no shard ${shard} of SES`);
    return client;
  }

  /** Reads an identity of a shard; null when there is none. Throws what `of` and `SesIdentities.get` throw. */
  async get(name: string, call: Call, shard?: string): Promise<SesIdentity | null> {
    return this.of(shard).get(name, call);
  }

  /** Gives the names of the shards, in the order of the settings. */
  names(): string[] {
    return [...this.clients.keys()];
  }

  /** Has the errors of all shards reported, and whether a shard fails. */
  reportTo(reports: ShardReports): void {
    for (const [name, client] of this.clients) client.outcomes = new ShardHealth(name, reports);
  }

  close(): void {
    for (const client of this.clients.values()) client.close();
  }
}
