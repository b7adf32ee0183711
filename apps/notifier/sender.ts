/** The platform's own sender, which is used when the configured one cannot be. */
export const platformSender = 'Sendmux <notifications@sendmux.ai>';

/**
 * Gives the domain of a sender such as `Sendmux <notifications@sendmux.ai>`.
 *
 * @throws {Error} when the sender has no address.
 */
export function senderDomain(sender: string): string {
  const match = /^[^\r\n<>]*<[^\s<>@]+@([^\s<>@]+)>$|^[^\s<>@]+@([^\s<>@]+)$/.exec(sender.trim());
  if (!match) throw new Error(`NOTIFY_FROM must be an address, such as “${platformSender}”; it is “${sender}”`);
  return (match[1] ?? match[2])!.toLowerCase();
}

/**
 * Chooses the sender of a mail about failing domains: the configured one, or else the platform's own. A sender whose
 * domain is a failing one, or below it, is not used, because receivers may refuse its mail.
 *
 * @returns undefined when neither can be used.
 */
export function senderFor(failingDomains: readonly string[], configured: string): string | undefined {
  const isFailing = (sender: string) =>
    failingDomains.some((domain) => `.${senderDomain(sender)}`.endsWith(`.${domain.toLowerCase()}`));
  return [configured, platformSender].find((sender) => !isFailing(sender));
}
