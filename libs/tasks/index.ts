export * from './migrations';
export * from './task-list';
export * from './task-lists';
export * from './task-worker';
