export * from './event-types';
export * from './notices';
export * from './webhooks.migration';
