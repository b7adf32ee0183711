export * from './address';
export * from './commands';
export * from './errors';
export * from './events';
export * from './mailbox';
export * from './personal-data';
export * from './recorded';
export * from './sender-rules';
