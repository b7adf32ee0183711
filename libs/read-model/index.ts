export * from './compared-rows';
export * from './domains.migration';
export * from './domains.projection';
export * from './domains.queries';
export { addressReservation, liveHome, noMailboxLeft, oneSharedMailbox } from './mailboxes.migration';
export * from './mailboxes.projection';
export * from './mailboxes.queries';
export * from './team-streams';
export {
  allow,
  closeQuotas,
  heldBy,
  heldDomainsInAll,
  quotaKinds,
  Quotas,
  recountQuotas,
  singular,
  type CommonQuotas,
  type QuotaKind,
  type QuotaUse,
  type QuotaUses,
} from './quotas';
export { installationQuota, teamQuota } from './quotas.migration';
export { recountShards, storeShards, StoredShards, type ShardReports, type ShardUse } from './ses-shards';
export { shardCapacity } from './ses-shards.migration';
