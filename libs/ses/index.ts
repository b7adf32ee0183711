export * from './ses-identities';
export * from './ses.module';
