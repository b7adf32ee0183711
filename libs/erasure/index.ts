export * from './needles';
export * from './search';
