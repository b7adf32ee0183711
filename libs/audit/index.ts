export * from './audit.migration';
export * from './seal';
export * from './seals';
export * from './verification';
