export * from './errors';
export * from './event';
export * from './event-log';
export * from './event-store';
export * from './event-store.migration';
export * from './event-store.module';
