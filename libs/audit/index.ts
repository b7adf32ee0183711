export * from './audit.migration';
export * from './key-files';
export * from './proof';
export * from './seal';
export * from './seals';
export * from './stored-seals';
export * from './verification';
