export * from './mailbox-keys';
export * from './mailbox-keys.migration';
export * from './operation';
