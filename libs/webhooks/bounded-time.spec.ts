import { functionsIn, itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { checkAddresses, checkedUrl } from './targets';

const readers: Record<string, Reader> = {
  checkAddresses: ofText((text) => {
    try {
      checkAddresses(text, [text], { allowLoopback: true });
    } catch {
      // It is refused.
    }
  }),
  checkedUrl: ofText((text) =>
    [text, `https://${text}`].map((url) => {
      try {
        return checkedUrl(url, { allowLoopback: true });
      } catch {
        return undefined;
      }
    }),
  ),
};

/** What reads nothing that others wrote. */
const others = [
  'checkSecretKeys',
  'disableWebhook',
  'findDisabled',
  'healthOf',
  'isPublicAddress',
  'listWebhooks',
  'messageBefore',
  'nameDeliveries',
  'newSecret',
  'noticeKeyOf',
  'removeWebhooksOf',
  'replayBefore',
  'resealWebhooks',
  'showWebhook',
  'signaturesOf',
  'takeLanes',
  'webhookNotFound',
];

describe('what customers and endpoints write is read in time linear in its length', () => {
  it('by every function that there is', () =>
    expect([...Object.keys(readers), ...others].sort()).toEqual(functionsIn(__dirname)));

  itIsLinear(readers, 17, 20);
});
