export * from './back-off';
export * from './duration';
export * from './health';
export * from './ids';
export * from './logging.module';
export * from './run-app';
export * from './runtime.module';
export * from './settings';
