export * from './copy';
export * from './copy-rows';
export * from './database.module';
export * from './migrate';
