export { isKnownSesError, sesOperations, type SesOperation } from './ses-fault';
export * from './ses-identities';
export * from './ses-shards';
export type { ShardReports } from './shard-health';
export * from './ses.module';
