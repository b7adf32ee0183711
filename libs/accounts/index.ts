export * from './accounts.migration';
export * from './accounts.module';
export * from './accounts.service';
export * from './errors';
export * from './permissions';
