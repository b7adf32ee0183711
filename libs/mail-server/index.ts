export * from './mail-server';
export * from './mail-server.module';
export * from './mail-server-tables';
export { mailServerMigrations, sharedDomainId } from './mail-server.migration';
