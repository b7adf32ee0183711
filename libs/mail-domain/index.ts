export * from './commands';
export * from './errors';
export * from './events';
export * from './history';
export * from './identity-repair';
export * from './mail-domain';
export { provisioningFailure } from './provisioning-failure';
export * from './recorded';
