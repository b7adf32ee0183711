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
      const takes = await this.mailServer.takesMail(canonical(attributes.get('sender') ?? ''), recipient);
      return takes ? noObjection : refusal;
    } catch (error) {
      this.logger.warn({ err: error as Error }, 'the rules of a recipient could not be read');
      return unanswered;
    }
  }
}

/** Gives a sender in the form of the rules; as it was sent where it is no address that a rule could name. */
function canonical(sender: string): string {
  if (sender === '') return '';
  try {
    return parseSender(sender);
  } catch (error) {
    if (error instanceof AddressRefused) return sender;
    throw error;
  }
}
