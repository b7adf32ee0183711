export * from './domains.migration';
export * from './domains.projection';
export * from './domains.queries';
