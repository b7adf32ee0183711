export * from './domain';
export * from './mailbox';
export * from './shown-time';
export * from './webhook-messages';
export { announcedEvents, webhookTypeOf } from './webhook-types';
