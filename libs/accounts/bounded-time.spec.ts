import { itIsLinear, ofText, outcomeOf, textsOf, type Reader } from '../../test/support/bounded-time';
import { checkedEmails, hashOf } from './accounts.service';
import { invitationMail } from './invitation-mail';
import { allows, isRole, mayGive } from './permissions';

const readers: Record<string, Reader> = {
  allows: ofText((text) => [allows([text], 'domain.read'), allows(['domain.*'], text)]),
  checkedEmails: ofText((text) =>
    Promise.all([text, `${text}@acme.com`, `ada@${text}`].map((email) => outcomeOf(() => checkedEmails([email])))),
  ),
  'checkedEmails, of many': (text, length) => {
    const emails = textsOf(text, length);
    return { octets: length, run: () => outcomeOf(() => checkedEmails(emails)) };
  },
  hashOf: ofText(hashOf),
  invitationMail: ofText((text) =>
    invitationMail(
      { team: text, teamName: text, email: text, token: text, expiresAt: new Date(0) },
      'https://api.sendmux.ai',
    ),
  ),
  isRole: ofText(isRole),
  mayGive: ofText((text) => mayGive({ role: null, permissions: [text] }, { permissions: [text] })),
};

describe('what a request says of keys and owners is read in time linear in its length', () =>
  itIsLinear(readers, 17, 20));
