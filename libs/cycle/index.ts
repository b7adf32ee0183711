export * from './check-times';
export * from './cycle';
export * from './cycle.migration';
export * from './requested-looks';
