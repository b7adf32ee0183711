export * from './event-types';
export * from './webhooks.migration';
