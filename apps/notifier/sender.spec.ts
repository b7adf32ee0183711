import { platformSender, senderDomain, senderFor } from './sender';

const own = 'Acme Mail <alerts@mail.acme.com>';

it('H20 never uses a sender on or below the failing domain', () => {
  expect(senderFor(['mail.acme.com'], own)).toBe(platformSender);
  expect(senderFor(['acme.com'], own)).toBe(platformSender);
  expect(senderFor(['sendmux.ai'], platformSender)).toBeUndefined();
});

it('uses the configured sender for every other domain', () => {
  for (const other of ['other.com', 'il.acme.com', 'x.mail.acme.com']) expect(senderFor([other], own)).toBe(own);
});

it('reads the domain of an address with or without a name, and refuses other texts', () => {
  expect(senderDomain(own)).toBe('mail.acme.com');
  expect(senderDomain('alerts@MAIL.acme.com')).toBe('mail.acme.com');
  for (const bad of ['Acme', 'a@b@c', '<>', 'x <a@b.c>\r\nBcc: <d@e.f>']) expect(() => senderDomain(bad)).toThrow();
});
