import { checkNamed, type CheckName } from './checks';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const said = (check: CheckName, name = domain.name) =>
  checkNamed(check)!
    .hints({ ...domain, name })
    .join('\n');

/** Sentence by sentence, as the product guide has them. */
describe('the troubleshooting section of the guide, with the customer’s own names', () => {
  it.each([
    ['verification_txt', 'Confirm the record name is exactly _sendmux.mail.acme.com'],
    ['verification_txt', 'producing _sendmux.mail.acme.com.mail.acme.com or _sendmux.mail.acme.com.acme.com'],
    ['verification_txt', 'Confirm the value is sendmux-verify=team_abc123, including the sendmux-verify= prefix'],
    ['verification_txt', 'Wait 2–5 minutes and retry'],
    ['mx', 'Check that the MX target is mail.sendmux.ai (with or without a trailing dot)'],
    ['mx', 'Check the priority is 10'],
    ['mx', 'Make sure the MX is on mail.acme.com, not acme.com'],
    ['mx', 'MX records cannot be proxied'],
    ['mx', 'set it to “DNS only”'],
    ['spf', 'Only one SPF record per hostname is allowed: merge all include: mechanisms into one record'],
    ['spf', 'v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com ~all'],
    ['spf', 'Check for typos'],
    ['spf', 'SPF is whitespace-sensitive'],
    ['dmarc', 'The record name is _dmarc.mail.acme.com and the type is TXT'],
    ['dmarc', 'v=DMARC1; p=quarantine is the Sendmux minimum'],
    ['dmarc', 'You can add tags (rua=, pct=, adkim=), but do not remove p=quarantine'],
    ['dkim', 'Confirm all three CNAMEs are in place'],
    ['dkim', 'token2._domainkey.mail.acme.com to token2.dkim.amazonses.com'],
    ['dkim', 'must be set to “DNS only” (not proxied), same as MX'],
    ['dkim', 'temporary_failure usually resolves within an hour once the records are correct'],
    ['dkim', 'more than 72 hours with the records in place, contact support at contact@sendmux.ai'],
  ] as const)('%s: %s', (check, sentence) => expect(said(check)).toContain(sentence));

  it('names no parent of a registrable domain', () => {
    expect(said('mx', 'acme.co.uk')).not.toContain('not co.uk');
    expect(said('verification_txt', 'acme.co.uk')).toContain('producing _sendmux.acme.co.uk.acme.co.uk.');
  });
});
