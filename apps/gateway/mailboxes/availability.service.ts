import { Injectable } from '@nestjs/common';
import {
  AddressRefused,
  decideMailbox,
  CreateMailbox,
  MailboxRuleBroken,
  noMailbox,
  parseAddress,
  sharedDomain,
} from '@app/mailbox';
import { DomainsReadModel, MailboxesReadModel } from '@app/read-model';

/** Why a mailbox can or cannot be created, by the names of the mail API. */
export const availabilityReasons = [
  'available',
  'invalid_email',
  'domain_not_available',
  'taken',
  'reserved',
  'cleanup_pending',
] as const;

export interface Availability {
  /** The canonical address, or what was asked for where it is no address. */
  readonly email: string;
  readonly available: boolean;
  readonly reason: (typeof availabilityReasons)[number];
}

/** Tells whether a team could create a mailbox. Nothing is reserved by it. */
@Injectable()
export class MailboxAvailability {
  constructor(
    private readonly domains: DomainsReadModel,
    private readonly mailboxes: MailboxesReadModel,
  ) {}

  /** Says nothing of domains and mailboxes of other teams: a domain that is not the team's own is not available. */
  async of(written: string, team: string): Promise<Availability> {
    let email = written;
    const said = (reason: Availability['reason']) => ({ email, available: reason === 'available', reason });
    try {
      const { address, domain } = parseAddress(written);
      email = address;
      const isShared = domain === sharedDomain;
      const home = isShared ? null : await this.domains.homeOf(domain, team);
      if (!isShared && home?.status !== 'verified') return said('domain_not_available');
      const data = { address, team, home, provider: null };
      decideMailbox(new CreateMailbox('', data, { at: '', actor: '', correlationId: '' }), noMailbox);
      if (isShared && (await this.mailboxes.hasShared(team))) return said('taken');
      return said((await this.mailboxes.isTaken(address)) ? 'taken' : 'available');
    } catch (error) {
      if (error instanceof AddressRefused) return said('invalid_email');
      if (error instanceof MailboxRuleBroken) return said('reserved');
      throw error;
    }
  }
}
