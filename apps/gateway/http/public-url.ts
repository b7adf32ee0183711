/** Where customers reach the gateway, as a part that Nest can inject. */
export class PublicUrl {
  /** @param href without a slash at its end. */
  constructor(readonly href: string) {}
}
