export * from './event-types';
export * from './notices';
export * from './signature';
export * from './targets';
export * from './webhooks.migration';
