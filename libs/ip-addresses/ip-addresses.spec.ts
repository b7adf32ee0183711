import { isLoopback, isLoopbackAddress, isPublicAddress } from './ip-addresses';

it.each([
  '1.1.1.1',
  '9.255.255.255',
  '11.0.0.0',
  '100.63.255.255',
  '100.128.0.0',
  '126.255.255.255',
  '128.0.0.1',
  '169.253.255.255',
  '169.255.0.0',
  '172.15.255.255',
  '172.32.0.1',
  '192.167.255.255',
  '192.169.0.0',
  '198.17.255.255',
  '198.20.0.0',
  '223.255.255.255',
  '2606:4700:4700::1111',
  '2a00:1450:4001:081b:0000:0000:0000:200e',
  '2001:4860:4860::8888',
  '2600::',
])('%s is on the public Internet', (address) => expect(isPublicAddress(address)).toBe(true));

it.each([
  ['this network', ['0.0.0.0', '0.0.0.1', '0.255.255.255', '::']],
  ['loopback', ['127.0.0.1', '127.0.0.2', '127.255.255.255', '::1', '0000:0000:0000:0000:0000:0000:0000:0001']],
  ['private', ['10.0.0.0', '10.1.2.3', '10.255.255.255', '172.16.0.1', '172.31.255.255', '192.168.0.0', '192.168.1.1']],
  ['CGNAT', ['100.64.0.0', '100.64.0.1', '100.127.255.255']],
  ['link-local', ['169.254.0.1', '169.254.255.255', 'fe80::1', 'fe80::1%eth0', 'febf::1']],
  ['unique local', ['fc00::', 'fc00::1', 'fd12:3456:789a::1', 'fdff:ffff::1']],
  ['site-local, deprecated', ['fec0::1', 'feff::1']],
  ['multicast', ['224.0.0.1', '239.255.255.255', 'ff02::1', 'ff0e::1']],
  ['documentation', ['192.0.2.1', '198.51.100.1', '203.0.113.255', '2001:db8::1', '3fff::1', '3fff:fff::1']],
  ['benchmarking', ['198.18.0.0', '198.19.255.255', '2001:2::1']],
  ['reserved', ['192.0.0.1', '240.0.0.1', '255.255.255.254', '4000::1', '8000::1', '5f00::1', '100::1']],
  ['broadcast', ['255.255.255.255']],
  ['relays and anycast of protocols', ['192.88.99.1', '192.52.193.1', '192.31.196.1', '192.175.48.1', '2001:3::1']],
  ['metadata of clouds', ['169.254.169.254', '169.254.170.2', '100.100.100.200', '192.0.0.192', '168.63.129.16']],
  ['metadata of clouds by IPv6', ['fd00:ec2::254', 'fd20:ce::254']],
  ['IPv4-mapped', ['::ffff:10.0.0.1', '::ffff:1.1.1.1', '::ffff:a00:1', '0000:0000:0000:0000:0000:ffff:7f00:0001']],
  ['IPv4-compatible', ['::10.0.0.1', '::a00:1', '::1.1.1.1']],
  ['IPv4-translated', ['::ffff:0:10.0.0.1', '::ffff:0:a00:1']],
  ['NAT64', ['64:ff9b::a00:1', '64:ff9b::169.254.169.254', '64:ff9b::1.1.1.1', '64:ff9b:1::a00:1']],
  ['6to4', ['2002:0a00:0001::1', '2002:7f00:1::', '2002:101:101::1']],
  ['Teredo', ['2001::1', '2001:0:4136:e378:8000:63bf:3fff:fdd2']],
  ['ORCHID and other identifiers', ['2001:10::1', '2001:20::1', '2001:30::1']],
  ['ISATAP', ['2606:4700::5efe:10.0.0.1', '2606:4700::200:5efe:a00:1']],
  ['no address', ['x', '', '1', '0x7f000001', '0177.0.0.1', '127.1', '2130706433', '1.1.1.1.', '[::1]', ' 1.1.1.1']],
])('what is %s is not', (_what, addresses) => {
  for (const address of addresses) expect([address, isPublicAddress(address)]).toEqual([address, false]);
});

it('knows the addresses of this machine', () => {
  for (const address of ['127.0.0.1', '127.8.9.10', '::1', '::ffff:127.0.0.1'])
    expect(isLoopbackAddress(address)).toBe(true);
  for (const address of ['localhost', '128.0.0.1', '10.0.0.1', '::', '::ffff:10.0.0.1', '127.1', '0.0.0.0', ''])
    expect(isLoopbackAddress(address)).toBe(false);
});

it('knows this machine by its names', () => {
  for (const host of ['localhost', '127.0.0.1', '127.8.9.10', '[::1]']) expect(isLoopback(host)).toBe(true);
  for (const host of ['localhost.example', '127.0.0.1.example', '128.0.0.1', '::1'])
    expect(isLoopback(host)).toBe(false);
});
