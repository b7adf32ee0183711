export * from './mail-server';
export * from './mail-server.module';
export { mailServerMigrations } from './mail-server.migration';
