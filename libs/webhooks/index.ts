export * from './deliveries';
export * from './event-types';
export * from './lanes';
export * from './notices';
export * from './secret-keys';
export * from './signature';
export * from './targets';
export * from './webhooks.migration';
