import { isPageAddress, nameInZone, zoneOf } from './names';

it.each([
  ['acme.com', 'acme.com', '@'],
  ['Mail.Acme.com.', 'acme.com', 'mail'],
  ['a._domainkey.mail.acme.com', 'acme.com', 'a._domainkey.mail'],
  ['a._domainkey.mail.acme.com', 'mail.acme.com.', 'a._domainkey'],
  ['notacme.com', 'acme.com', 'notacme.com.'],
])('writes %s in the zone %s as %s', (name, zone, written) => expect(nameInZone(name, zone)).toBe(written));

it('knows the zone of a record by its host', () => {
  expect(zoneOf({ name: '_dmarc.mail.acme.com', host: '_dmarc.mail' })).toBe('acme.com');
  expect(zoneOf({ name: 'acme.com', host: '@' })).toBe('acme.com');
});

it('follows only addresses of pages', () => {
  expect(isPageAddress('https://dns.example/apply?x=1')).toBe(true);
  expect(['javascript:alert(1)', 'data:text/html,x', '/relative', ''].some(isPageAddress)).toBe(false);
});
