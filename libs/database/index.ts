export * from './connections';
export * from './copy';
export * from './copy-rows';
export * from './database.module';
export * from './migrate';
export * from './postgres-fault';
export { RouteUnusable } from './routes';
