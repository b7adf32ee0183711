export * from './connections';
export * from './copy';
export * from './copy-rows';
export * from './database.module';
export * from './migrate';
export * from './old-snapshots';
export * from './postgres-fault';
export * from './replaced-table';
export { checkPooled, checkSessions, RouteUnusable } from './routes';
