export * from './domain-name';
export * from './commands';
export * from './errors';
export * from './events';
export * from './findings';
export * from './mail-domain';
export * from './records';
export * from './verdicts';
