export * from './ip-addresses';
