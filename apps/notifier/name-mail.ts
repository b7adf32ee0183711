/** Writes the mails about the name of a domain: that it expires, may be claimed, or is another team's. Pure. */
import { isLive, type MailDomain } from '@app/mail-domain';
import { day, type FailureMail } from './failure-mail';
import { letter } from './letter';
import type { NewsTask } from './notices';

export interface NameMail {
  readonly name: string;
  readonly team: string;
  readonly written: FailureMail;
}

interface Words {
  readonly subject: string;
  readonly found: string;
  readonly next: string;
}

const why = 'You receive this mail, once, because you are an owner of the team that added the domain.';
const moment = (at: string): string => `${day(at)} at ${at.slice(11, 16)} UTC`;

/**
 * Writes the mail for a domain as it is now; undefined when what happened then is true no more.
 *
 * @param graceMs how long the ownership record has to be gone before the name can be claimed.
 */
export function nameMail(
  { about, at }: Pick<NewsTask, 'about' | 'at'>,
  state: MailDomain,
  graceMs: number,
): NameMail | undefined {
  if (state.status === 'absent') return undefined;
  const { name, team } = state;
  const words = wordsOf(about, at, state, graceMs);
  if (!words) return undefined;
  const { subject, found, next } = words;
  return { name, team, written: letter({ subject, title: name, paragraphs: [found, next], why }) };
}

function wordsOf(about: NewsTask['about'], at: string, state: MailDomain, graceMs: number): Words | undefined {
  switch (about) {
    case 'expiry':
      if (!isLive(state) || state.expiresAt === undefined) return undefined;
      return {
        subject: `${state.name} expires on ${day(state.expiresAt)}`,
        found: `${state.name} was added on ${day(state.addedAt)}, and has never been verified. It expires on ${moment(state.expiresAt)}: it is removed then, and its name is free.`,
        next: 'To keep it, place its DNS records and verify it before. If you no longer need it, you need not do anything.',
      };
    case 'ownership_gone': {
      if (!isLive(state) || state.ownershipGoneSince !== at) return undefined;
      const claimable = new Date(Date.parse(at) + graceMs).toISOString();
      return {
        subject: `The ownership record of ${state.name} is gone`,
        found: `Since ${moment(at)} we no longer find the TXT record sendmux-verify=${state.team} at _sendmux.${state.name}. It proves that the domain is your team’s.`,
        next: `Please place it again. From ${moment(claimable)} on another team may claim ${state.name}, if it proves that the name is its own.`,
      };
    }
    case 'released':
      if (state.status !== 'released' && state.status !== 'deleted') return undefined;
      return {
        subject: `${state.name} is another team’s now`,
        found: `On ${moment(at)} another team claimed ${state.name}, and proved by a DNS record that the name is its own. Your team had not verified it, or its ownership record was gone. So ${state.name} has been removed from your team, and its mailboxes are suspended.`,
        next: `If the name is yours, place your ownership record and claim it back while the other team has not verified it. Else remove the records of ${state.name} that we gave you.`,
      };
  }
}
