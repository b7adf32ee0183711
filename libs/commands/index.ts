export * from './commands';
export * from './commands.module';
export type { Decider } from './decider';
export { StreamHasChanged, type Decision } from './decider.handler';
export * from './domain-command.handler';
export * from './mailbox-command.handler';
export { InstallationFull, QuotaExceeded, ShardClosed } from './quota-errors';
