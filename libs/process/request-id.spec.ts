import { withoutAddresses } from './request-id';

it.each([
  [
    '/api/v1/mailboxes/availability?email=ada%40mail.acme.com&x=1',
    '/api/v1/mailboxes/availability?email=[address]&x=1',
  ],
  ['/api/v1/mailboxes/ada@mail.acme.com', '/api/v1/mailboxes/[address]'],
  ['/x?next=%2Fy%3Femail%3Dada%2540mail.acme.com', '/x?next=[address]'],
  ['/api/v1/domains?name=mail.acme.com', '/api/v1/domains?name=mail.acme.com'],
])('%s is logged without the address', (url, logged) => expect(withoutAddresses(url)).toBe(logged));
