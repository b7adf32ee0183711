export * from './sender-rules.migration';
export * from './stored-sender-rules';
