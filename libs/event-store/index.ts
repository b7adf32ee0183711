export * from './errors';
export * from './event';
export * from './event-archive';
export * from './event-hash';
export { EventLog, type LogPage, type PageSelection } from './event-log';
export * from './event-store';
export * from './event-store.migration';
export * from './event-store.module';
export * from './stream-reader';
