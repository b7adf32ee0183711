export * from './domains.migration';
export * from './domains.projection';
export * from './domains.queries';
export { addressReservation, liveHome, noMailboxLeft, oneSharedMailbox } from './mailboxes.migration';
export * from './mailboxes.projection';
export * from './mailboxes.queries';
