/** The types of the messages that tell of a domain or a mailbox, by which an endpoint chooses what it gets. */
export const webhookTypes = [
  'domain.created',
  'domain.verified',
  'domain.lapsed',
  'domain.failed',
  'domain.recovered',
  'domain.records_changed',
  'domain.deleted',
  'mailbox.created',
  'mailbox.suspended',
  'mailbox.resumed',
  'mailbox.deleted',
] as const;
export type WebhookType = (typeof webhookTypes)[number];

/** The type of the message that `POST /webhooks/{id}/test` sends, whatever the endpoint has chosen. */
export const testType = 'sendmux.test';

/**
 * What a delivery waits behind: `live` deliveries wait for earlier events of their subject, those of a `replay` for
 * earlier events of that replay. Tests and redeliveries, which a customer has asked for one by one, are `requested`.
 * The lanes of an endpoint do not wait for each other.
 */
export const lanes = ['live', 'replay', 'requested'] as const;
export type Lane = (typeof lanes)[number];

/** The most tries of a delivery: at once, and after each of eight waits. */
export const triesLimit = 9;
