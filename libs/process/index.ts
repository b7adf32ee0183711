export * from './http-server';
export * from './pages';
export * from './process.module';
export { withoutKeys } from './request-id';
export * from './run-app';
