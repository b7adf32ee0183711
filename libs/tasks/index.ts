export * from './migrations';
export * from './task-list';
export * from './task-worker';
