export { teamIdTag } from './ses-tenants';
export * from './ses-writer';
export * from './ses-writer.module';
