import { functionsIn, itIsLinear, ofName, ofText, type Reader } from '../../test/support/bounded-time';
import { presentDeletion, presentDomain, presentStanding, recordsToRemove } from './domain';
import { presentMailbox } from './mailbox';
import { shown } from './shown-time';
import { testBody } from './webhook-messages';
import { webhookTypeOf } from './webhook-types';

const noTimes = { lastCheckedAt: null, nextCheckAt: null };
const viewOf = (name: string) =>
  ({
    id: 'mdom_1',
    name,
    team: 'team_abc123',
    dkimTokens: ['token1', 'token2', 'token3'],
    dkimZone: 'dkim.amazonses.com',
    sesRegion: 'eu-west-1',
    status: 'pending',
    verifiedAt: null,
    createdAt: new Date(0),
  }) as never;

const readers: Record<string, Reader> = {
  presentDomain: ofName((name) => presentDomain(viewOf(name), noTimes)),
  presentDeletion: ofName((name) => presentDeletion(viewOf(name))),
  recordsToRemove: ofName((name) => recordsToRemove(viewOf(name))),
  presentMailbox: ofText((text) =>
    presentMailbox({ id: 'mbx_1', address: text, displayName: text, provider: text, createdAt: new Date(0) } as never),
  ),
};

describe('what customers are shown is made in time linear in its length', () => {
  it('by every function that there is', () => {
    // These read nothing from outside.
    const others = ['presentStanding', 'shown', 'testBody', 'webhookTypeOf'];
    expect([...Object.keys(readers), ...others].sort()).toEqual(functionsIn(__dirname));
    expect([presentStanding, shown, testBody, webhookTypeOf]).toBeDefined();
  });

  itIsLinear(readers, 17, 10);
});
