import { CommandToDomain, DomainCommandHandler } from '@app/commands';
import { EventStore, LostHistory } from '@app/event-store';
import { isLive, RequestIdentityRepair } from '@app/mail-domain';
import { haveSameTokens } from '@app/mail-records';
import { domainsProjection, identifiedDomains, statusesOf, type IdentifiedDomain } from '@app/read-model';
import { newId } from '@app/runtime';
import { adoptedTag, type Call, type SesIdentity, type SesShards } from '@app/ses';
import type { SesWriter } from '@app/ses-writer';
import { provisioningLists, reconcileTask, TaskList } from '@app/tasks';
import type { Pool } from 'pg';
import type { Findings } from './findings';

export interface SesComparison {
  readonly pool: Pool;
  readonly shards: SesShards<SesWriter>;
  readonly findings: Findings;
  /** Whether the tag and the keys of each identity are read, one call of SES for each; otherwise names alone. */
  readonly isDeep: boolean;
  /** The number of the AWS account, where the credentials do not name it. */
  readonly account: string | undefined;
  readonly signal: AbortSignal;
  readonly reached: (identities: number) => void;
}

/**
 * Compares the identities of all shards of SES with the domains of the log. What the log has is provisioned again by
 * provisioning, as after any loss; nothing is created here.
 */
export async function compareSes(comparison: SesComparison): Promise<void> {
  const { pool, shards, findings, isDeep, signal, reached } = comparison;
  const held = await identifiedDomains(pool);
  const call: Call = { priority: 'background', signal };
  let done = 0;
  for (const shard of shards.names()) {
    const missing = new Map([...held].filter(([, domain]) => domain.shard === shard && domain.isSettled));
    for await (const page of shards.of(shard).list(call))
      for (const { name } of page) {
        signal.throwIfAborted();
        reached(++done);
        const domain = held.get(name);
        const isHere = domain && (domain.shard === shard || domain.otherShard === shard);
        if (domain?.shard === shard) missing.delete(name);
        if (isHere && (!isDeep || domain.shard !== shard || !domain.isSettled)) continue;
        const identity = await shards.of(shard).get(name, call);
        if (!identity) continue;
        if (isHere) await compareIdentity(comparison, domain, identity);
        else await unknownIdentity(comparison, shard, identity, call);
      }
    signal.throwIfAborted();
    for (const { id, name } of missing.values())
      await findings.take(
        { area: 'ses', kind: 'missing', what: name, log: `${id} has an identity in ${shard}`, there: 'none' },
        { fromLog: () => requestRepair(pool, id) },
      );
  }
}

async function compareIdentity(
  { pool, findings }: SesComparison,
  { id, name, tokens }: IdentifiedDomain,
  identity: SesIdentity,
): Promise<void> {
  const { domainId } = identity;
  const isIts = domainId === id || domainId === adoptedTag;
  if (isIts && haveSameTokens(identity.tokens, tokens)) return;
  const lost = domainId !== null && (await new LostHistory(pool).has(domainId));
  const hasOther = isIts ? 'other DKIM keys' : `it is tagged ${domainId ?? 'with nothing'}`;
  // Provisioning replaces what is of a lost domain, and takes over other keys of what is its own.
  const mends = isIts || lost;
  await findings.take(
    { area: 'ses', kind: mends ? 'different' : 'foreign', what: name, log: `that of ${id}`, there: hasOther },
    mends ? { fromLog: () => requestRepair(pool, id) } : {},
  );
}

async function unknownIdentity(
  { pool, shards, findings, account }: SesComparison,
  shard: string,
  { name, domainId }: SesIdentity,
  call: Call,
): Promise<void> {
  const found = (kind: 'left' | 'lost' | 'foreign', log: string) =>
    ({
      area: 'ses',
      kind,
      what: name,
      log,
      there: `an identity in ${shard}, tagged ${domainId ?? 'with nothing'}`,
    }) as const;
  if (domainId === null || domainId === adoptedTag)
    return findings.take(found('foreign', domainId === null ? 'not ours' : 'adopted, for whoever adds it'));
  const status = (await statusesOf(pool, 'domains', [domainId])).get(domainId);
  if (status === 'deleted' || status === 'rolled_back')
    return findings.take(found('left', `${domainId} is ${status.replace('_', ' ')}`), {
      fromLog: () => convergeAgain(pool, domainId),
    });
  if (status !== undefined) return findings.take(found('foreign', `${domainId} is ${status}`));
  if (!(await new LostHistory(pool).has(domainId))) return findings.take(found('foreign', `${domainId} is unknown`));
  const writer = shards.of(shard);
  return findings.take(found('lost', `${domainId} was lost`), {
    adopt: async () => {
      const number = account ?? (await writer.account());
      if (!number) throw new Error('Give the twelve digits of the AWS account with --account.');
      await writer.adopt(name, number, call);
    },
    delete: () => writer.delete(name, call),
  });
}

/** Has provisioning make the identity again, as a look that misses it does. */
async function requestRepair(pool: Pool, id: string): Promise<void> {
  const domains = new DomainCommandHandler(new EventStore(pool, domainsProjection));
  const { state } = await domains.load(id);
  if (!isLive(state) || state.inRepair) return;
  const context = { at: new Date().toISOString(), actor: 'operator', correlationId: newId('req') };
  await domains.execute(new CommandToDomain(new RequestIdentityRepair(id, { fault: 'missing' }, context)));
}

/** Has provisioning look again at what a domain of the log requires. */
export async function convergeAgain(pool: Pool, id: string): Promise<void> {
  await new TaskList(pool).put(provisioningLists.provisioning, id, reconcileTask, { at: new Date().toISOString() });
}
