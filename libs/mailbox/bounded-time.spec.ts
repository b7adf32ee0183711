import { functionsIn, itIsLinear, ofName, ofText, type Reader } from '../../test/support/bounded-time';
import { parseAddress, parseSender, suffixOf } from './address';
import { CreateMailbox } from './commands';
import { AddressRefused, MailboxRuleBroken } from './errors';
import { canonicalRules, rulesDigest, SenderRuleRefused } from './sender-rules';
import { decideMailbox, evolveMailbox, noMailbox } from './mailbox';

const context = { at: '2026-03-01T10:00:00.000Z', actor: 'key_1', correlationId: 'req_1' };

/** Gives what an address comes to, or why it is refused. */
function outcomeOf<T>(make: () => T): T | string {
  try {
    return make();
  } catch (error) {
    const refusals = [AddressRefused, MailboxRuleBroken, SenderRuleRefused];
    if (refusals.some((refusal) => error instanceof refusal)) return (error as Error).message;
    throw error;
  }
}

const readers: Record<string, Reader> = {
  parseAddress: ofText((text) => [outcomeOf(() => parseAddress(text)), outcomeOf(() => parseAddress(`${text}@a.com`))]),
  parseSender: ofText((text) => [outcomeOf(() => parseSender(text)), outcomeOf(() => parseSender(`*@${text}`))]),
  canonicalRules: ofText((text) => outcomeOf(() => canonicalRules([{ type: 'deny', pattern: text, note: null }]))),
  rulesDigest: ofText((text) => rulesDigest([{ type: 'deny', pattern: 'a.com', note: text }])),
  suffixOf: ofText(suffixOf),
  // An address has 254 octets at most by then.
  decideMailbox: ofName((name) => {
    const address = `${name}@myagent.mx`;
    const data = { address, team: 'team_1', home: null, provider: null };
    return outcomeOf(() => decideMailbox(new CreateMailbox('mbx_1', data, context), noMailbox));
  }),
};

describe('an address is read in time linear in its length', () => {
  it('by every function that there is', () => {
    // These read what has been decided.
    const others = [
      'decrypted',
      'evolveMailbox',
      'hasPersonalData',
      'isEncrypted',
      'isUnencrypted',
      'mailboxEvent',
      'storedData',
      'storedMailboxEvent',
      'unencrypted',
    ];
    expect([...Object.keys(readers), ...others].sort()).toEqual(functionsIn(__dirname));
    expect(evolveMailbox).toBeDefined();
  });

  itIsLinear(readers, 17, 40);
});
