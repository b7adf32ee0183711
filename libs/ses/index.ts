export { isKnownSesError, sesOperations, type SesOperation } from './ses-fault';
export * from './ses-identities';
export * from './ses-shards';
export type { ShardReports } from './shard-health';
export * from './ses.migration';
export * from './ses.module';
export { SharedTurns } from './shared-turns';
export type { Priority, Turns, WaitingCall } from './turns';
