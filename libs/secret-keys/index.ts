export * from './cipher';
export * from './key-ring';
