export * from './domain';
export * from './mailbox';
export * from './shown-time';
