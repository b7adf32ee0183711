/** Says who asks, when, and why. It is stored with every event that the command gives. */
export interface CommandContext {
  /** ISO 8601, UTC. */
  readonly at: string;
  /** `key_…` for a customer's API key, or the name of the app. */
  readonly actor: string;
  readonly requestId?: string;
  /** The id that everything caused by one request shares. */
  readonly correlationId: string;
  /** `stream/version` of the event that caused this command. */
  readonly causationId?: string;
}
