export * from './commands.module';
export * from './domain-command.handler';
