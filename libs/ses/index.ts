export { isKnownSesError, sesOperations, type SesOperation } from './ses-fault';
export * from './ses-identities';
export * from './ses-shards';
export * from './ses.module';
