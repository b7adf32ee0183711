import { Logger } from '@nestjs/common';
import { AddressRefused, parseSender } from '@app/mailbox';
import type { MailServer } from '@app/mail-server';

const refusal = '550 5.7.1 The recipient takes no mail from this sender';
const unanswered = 'DEFER_IF_PERMIT 4.3.5 The rules of the recipient cannot be read just now, try again later';
/** Leaves the decision to the restrictions after this one. */
const noObjection = 'DUNNO';

/** Decides whether a recipient takes mail from a sender, by the rules of its domain. */
export class SenderPolicy {
  private readonly logger = new Logger(SenderPolicy.name);

  constructor(private readonly mailServer: Pick<MailServer, 'takesMail'>) {}

  /**
   * Gives the action for a request of the Postfix policy protocol (SMTPD_POLICY_README), in the form of access(5).
   * While the rules cannot be read, senders are asked to try again, since mail that a rule refuses must not get
   * through.
   */
  async actionFor(attributes: ReadonlyMap<string, string>): Promise<string> {
    const recipient = attributes.get('recipient');
    if (attributes.get('protocol_state') !== 'RCPT' || !recipient) return noObjection;
    try {
      const sender = attributes.get('sender') ?? '';
      const takes = await this.mailServer.takesMail(sender && senderOf(sender), recipientOf(recipient));
      return takes ? noObjection : refusal;
    } catch (error) {
      this.logger.warn({ err: error as Error }, 'the rules of a recipient could not be read');
      return unanswered;
    }
  }
}

/**
 * Gives a sender in the form of the rules. Where no rule could name its local part, a rule about its hostname still
 * applies.
 */
function senderOf(sent: string): string {
  const address = rewritten(sent);
  return canonical(address) ?? withCanonicalHost(address);
}

/** Gives a recipient with the name of its domain in canonical form. */
const recipientOf = (sent: string): string => withCanonicalHost(rewritten(sent));

/**
 * Gives an address as Postfix rewrites it before it delivers, which it does not do in a request: without `@`, the host
 * is before the first `!` (`swap_bangpath`) or after the last `%` (`allow_percent_hack` of postconf(5)). The host that
 * Postfix puts behind one without any is none of a customer, and is left empty.
 */
function rewritten(sent: string): string {
  if (sent.includes('@')) return sent;
  const bang = sent.indexOf('!');
  if (bang >= 0) return `${sent.slice(bang + 1)}@${sent.slice(0, bang)}`;
  const percent = sent.lastIndexOf('%');
  return percent < 0 ? `${sent}@` : `${sent.slice(0, percent)}@${sent.slice(percent + 1)}`;
}

function withCanonicalHost(address: string): string {
  const [localPart, host] = [address.slice(0, address.lastIndexOf('@')), address.slice(address.lastIndexOf('@') + 1)];
  return `${localPart}@${canonical(host) ?? host}`;
}

/** Gives an address or a hostname as a rule has it; undefined where no rule could. */
function canonical(written: string): string | undefined {
  try {
    return parseSender(written);
  } catch (error) {
    if (error instanceof AddressRefused) return undefined;
    throw error;
  }
}
