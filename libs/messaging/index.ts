export * from './event-consumer';
export * from './log-transport';
export * from './migrations';
