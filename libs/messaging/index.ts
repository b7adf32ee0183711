export * from './consume-events';
export * from './event-consumer';
export * from './log-transport';
export * from './migrations';
