import { isLoopback, isPublicAddress } from './public-addresses';

it.each(['1.1.1.1', '100.63.255.255', '172.32.0.1', '2606:4700:4700::1111', '2a00:1450:4001:081b:0000:0000:0000:200e'])(
  '%s is on the public Internet',
  (address) => expect(isPublicAddress(address)).toBe(true),
);

it.each([
  '0.0.0.0',
  '10.1.2.3',
  '100.64.0.1',
  '127.0.0.1',
  '169.254.169.254',
  '172.16.0.1',
  '192.0.2.1',
  '192.168.1.1',
  '198.19.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::ffff:10.0.0.1',
  '::ffff:1.1.1.1',
  '0000:0000:0000:0000:0000:ffff:7f00:0001',
  '64:ff9b::a00:1',
  '2001:db8::1',
  '2002:0a00:0001::1',
  'fc00::1',
  'fe80::1',
  'ff02::1',
  'x',
  '',
])('%s is not', (address) => expect(isPublicAddress(address)).toBe(false));

it('knows this machine by its names', () => {
  for (const host of ['localhost', '127.0.0.1', '127.8.9.10', '[::1]']) expect(isLoopback(host)).toBe(true);
  for (const host of ['localhost.example', '127.0.0.1.example', '128.0.0.1', '::1'])
    expect(isLoopback(host)).toBe(false);
});
