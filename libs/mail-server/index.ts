export * from './mail-server';
export * from './mail-server.module';
