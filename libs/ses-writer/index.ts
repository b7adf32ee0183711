export * from './ses-writer';
export * from './ses-writer.module';
