export * from './on-event';
