/** The platform's own, for when the configured sender cannot be used. */
export const platformSender = 'Sendmux <notifications@sendmux.ai>';

/**
 * The domain of a sender such as `Sendmux <notifications@sendmux.ai>`.
 *
 * @throws {Error} when it has no address.
 */
export function senderDomain(sender: string): string {
  const match = /^[^\r\n<>]*<[^\s<>@]+@([^\s<>@]+)>$|^[^\s<>@]+@([^\s<>@]+)$/.exec(sender.trim());
  if (!match) throw new Error(`NOTIFY_FROM must be an address, such as “${platformSender}”; it is “${sender}”`);
  return (match[1] ?? match[2])!.toLowerCase();
}

/**
 * The sender of a mail about failing domains: the configured one, or the platform's own where that one's domain is a
 * failing one or below it, since such a mail would be failing itself. Undefined when both are.
 */
export function senderFor(failingDomains: readonly string[], configured: string): string | undefined {
  const isFailing = (sender: string) =>
    failingDomains.some((domain) => `.${senderDomain(sender)}`.endsWith(`.${domain.toLowerCase()}`));
  return [configured, platformSender].find((sender) => !isFailing(sender));
}
