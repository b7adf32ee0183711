export * from './command-context';
export * from './upcast';
