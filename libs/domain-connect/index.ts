export * from './domain-connect';
export type { Resolver } from './pinned-get';
export * from './signing-key';
export { template } from './template';
