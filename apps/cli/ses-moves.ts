import { setTimeout as delay } from 'node:timers/promises';
import { CommandToDomain, DomainCommandHandler, ShardClosed } from '@app/commands';
import { EventStore } from '@app/event-store';
import {
  CancelIdentityMove,
  isLive,
  MoveIdentity,
  type DomainCommand,
  type IdentityMoveFailed,
  type LiveDomain,
} from '@app/mail-domain';
import { dnsRecords } from '@app/mail-records';
import { DomainsReadModel, domainsProjection, StoredShards } from '@app/read-model';
import { defaultShard, newId } from '@app/runtime';
import type { Pool } from 'pg';
import { unknown } from './ses-shards';

/** Milliseconds for which the new identity of one domain may take; SES allows about one call a second. */
const patienceMs = 300_000;
const pollMs = 200;
/** Ids of domains that are read at once. */
const pageSize = 200;

/**
 * What has become of a move. `prepared`: the new identity is there, and waits for the records that owners place.
 * `moved` and `completed`: SES has seen them already. `cancelled`, `failed`: the domain stays where it is. `gone`: it
 * was deleted meanwhile.
 */
export interface MoveOutcome {
  readonly name: string;
  readonly from: string;
  readonly to: string | null;
  readonly step: 'prepared' | 'moved' | 'completed' | 'cancelled' | 'failed' | 'gone';
  /** Why it has failed; null where it has not. */
  readonly reason: string | null;
  /** The DKIM records that owners have to place beside those that are there; none once the domain has moved. */
  readonly records: readonly { readonly name: string; readonly value: string }[];
}

/** Asks for moves of domains to other shards of SES, by an event each, and waits until the new identity is there. */
export class Moves {
  private readonly domains: DomainCommandHandler;
  private readonly store: EventStore;
  private readonly readModel: DomainsReadModel;
  private readonly shards: StoredShards;

  constructor(pool: Pool) {
    this.store = new EventStore(pool, domainsProjection);
    this.domains = new DomainCommandHandler(this.store);
    this.readModel = new DomainsReadModel(pool);
    this.shards = new StoredShards(pool);
  }

  /**
   * Moves one domain, or joins a move that is under way.
   *
   * @param to the shard; one that takes domains when absent.
   * @throws {Error} when nobody has a domain of that name, it is in the shard already, or no shard takes it.
   */
  async one(name: string, to?: string): Promise<MoveOutcome> {
    const state = await this.liveDomain(name);
    const outcome = await this.move(state.id, to);
    if (!outcome) throw new Error(`${name} is in the shard ${to} already.`);
    return outcome;
  }

  /** @throws {Error} when nobody has a domain of that name, or no move of it can be cancelled. */
  async cancel(name: string): Promise<MoveOutcome> {
    const { id, move } = await this.liveDomain(name);
    if (!move || move.step === 'moved') throw new Error(`There is no move of ${name} that could be cancelled.`);
    await this.execute(new CancelIdentityMove(id, context()));
    return this.outcome(id, move.from, true);
  }

  /**
   * Moves all domains of a shard, one after the other, so that an add never waits behind all of them for its turn at
   * SES. Those whose move is under way are left out, so that it goes on where it was stopped.
   *
   * @throws {Error} when there is no such shard, or no other one takes a domain.
   */
  async *all(from: string, to?: string): AsyncGenerator<MoveOutcome, void> {
    await this.assertKnown(from);
    for (let after = '', isFull = true; isFull;) {
      const ids = await this.readModel.movable(from, after, pageSize);
      for (const id of ids) {
        const outcome = await this.move(id, to);
        if (outcome) yield outcome;
      }
      isFull = ids.length === pageSize;
      after = ids.at(-1) ?? after;
    }
  }

  /** Counts the domains of a shard that could be moved, and those that wait for their owners' records. */
  left(from: string): Promise<{ readonly movable: number; readonly moving: number }> {
    return this.readModel.movesFrom(from);
  }

  private async liveDomain(name: string): Promise<LiveDomain> {
    const holder = await this.readModel.holderOf(name);
    const state = holder && (await this.domains.load(holder.id)).state;
    if (!state || !isLive(state)) throw new Error(`There is no domain ${name} that is provisioned.`);
    return state;
  }

  private async assertKnown(shard: string): Promise<void> {
    const uses = await this.shards.uses();
    if (!uses.some(({ name }) => name === shard)) throw new Error(unknown(shard, uses));
  }

  /** Gives undefined for a domain that is not there any more, or is in the shard already. */
  private async move(id: string, given?: string): Promise<MoveOutcome | undefined> {
    const { state } = await this.domains.load(id);
    if (!isLive(state)) return undefined;
    const from = state.sesShard ?? defaultShard;
    if (given !== undefined) await this.assertKnown(given);
    while (!state.move) {
      const to = given ?? (await this.shards.chooseOpen(from));
      if (to === undefined)
        throw new Error(`No shard but ${from} takes ${state.name}: \`sendmux ses shards\` says why.`);
      if (to === from) return undefined;
      try {
        await this.execute(new MoveIdentity(id, { from, to }, context()));
        break;
      } catch (error) {
        if (!(error instanceof ShardClosed)) throw error;
        if (given !== undefined)
          throw new Error(`The shard ${given} takes no more domains: \`sendmux ses shards\` says why.`, {
            cause: error,
          });
      }
    }
    return this.outcome(id, from);
  }

  /** Waits until a move has got as far as it does by itself, or has ended. */
  private async outcome(id: string, from: string, isCancelled = false): Promise<MoveOutcome> {
    const giveUpAt = performance.now() + patienceMs;
    for (;;) {
      const { state, version } = await this.domains.load(id);
      if (!isLive(state)) {
        const name = 'name' in state ? state.name : id;
        return { name, from, to: null, step: 'gone', reason: null, records: [] };
      }
      const { name, move, nextDkim, sesShard } = state;
      if (!move) {
        const failed = sesShard === from || (sesShard === undefined && from === defaultShard);
        const reason = failed ? await this.failure(id, version) : null;
        const step = isCancelled ? 'cancelled' : failed ? 'failed' : 'completed';
        return { name, from, to: failed ? null : sesShard!, step, reason, records: [] };
      }
      const { to, step } = move;
      if (step === 'prepared' && !isCancelled) {
        const isNew = new Set(nextDkim?.dkimTokens);
        const records = dnsRecords(state)
          .dkim.map(({ name, value }) => ({ name, value }))
          .filter((record) => isNew.has(record.name.split('.', 1)[0]!));
        return { name, from, to, step, reason: null, records };
      }
      if (step === 'moved') return { name, from, to, step, reason: null, records: [] };
      if (performance.now() > giveUpAt) throw new Error(`Provisioning has not moved ${name} yet. Does it run?`);
      await delay(pollMs);
    }
  }

  private async failure(id: string, version: number): Promise<string | null> {
    const failed = await this.store.lastBefore(id, version + 1, 'IdentityMoveFailed');
    return (failed?.data as IdentityMoveFailed['data'] | undefined)?.reason ?? null;
  }

  private execute(command: DomainCommand): Promise<unknown> {
    return this.domains.execute(new CommandToDomain(command));
  }
}

const context = () => ({ at: new Date().toISOString(), actor: 'operator', correlationId: newId('req') });
