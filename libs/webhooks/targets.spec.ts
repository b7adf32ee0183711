import { BlockList } from 'node:net';
import { checkAddresses, checkedUrl, TargetRefused, type TargetOptions } from './targets';

const outside = { allowLoopback: false };
const atHome = { allowLoopback: true };

const refusalOf = (text: string, options: TargetOptions = outside): string => {
  try {
    return `taken: ${checkedUrl(text, options).href}`;
  } catch (error) {
    if (error instanceof TargetRefused) return error.message;
    throw error;
  }
};

it.each([
  ['https://example.com', 'https://example.com/'],
  ['https://example.com:443/', 'https://example.com/'],
  ['https://Hooks.Example.com:8443/a/b?c=d&e', 'https://hooks.example.com:8443/a/b?c=d&e'],
  ['https://example.com:1024/', 'https://example.com:1024/'],
  ['https://example.com:65535/', 'https://example.com:65535/'],
  ['https://bücher.example/', 'https://xn--bcher-kva.example/'],
  ['https://EXAMPLE。com/', 'https://example.com/'],
  ['https://a_b.example.com/', 'https://a_b.example.com/'],
  ['https://8.8.8.8/', 'https://8.8.8.8/'],
  ['https://[2606:4700:4700::1111]/', 'https://[2606:4700:4700::1111]/'],
  ['https://example.com/@user', 'https://example.com/@user'],
])('takes %s', (text, href) => expect(checkedUrl(text, outside).href).toBe(href));

it.each<[string, string[], RegExp]>([
  [
    'no URL',
    ['', 'example.com', '/hooks', 'https://', 'https://exa<mple.com/', 'https://1.2.3.4.5/'],
    /must be absolute/,
  ],
  ['too long', [`https://example.com/${'a'.repeat(2_048)}`], /at most 2048 characters/],
  [
    'blanks',
    [' https://example.com/', 'https://example.com/a b', 'https://exam\tple.com/', 'https:\\\\x.y/'],
    /no blanks/,
  ],
  ['another scheme', ['http://example.com/', 'ftp://example.com/', 'file:///etc/passwd', 'javascript:1'], /https:/],
  ['credentials', ['https://a:b@example.com/', 'https://a@example.com/', 'https://@example.com/'], /no user/],
  ['a fragment', ['https://example.com/#a', 'https://example.com/#'], /no fragment/],
  [
    'a port of a system service',
    ['https://example.com:80/', 'https://example.com:22/', 'https://example.com:1023/', 'https://example.com:0/'],
    /port/,
  ],
  ['a port that is none', ['https://example.com:65536/', 'https://example.com:x/'], /must be absolute/],
  ['one label', ['https://gateway/', 'https://com./', 'https://localhost./'], /full name|public Internet/],
  ['no name', ['https://x..example.com/', 'https://-x.example.com/', `https://${'a'.repeat(64)}.com/`], /full name/],
  ['a dot at the end', ['https://example.com./'], /full name/],
  [
    'special names',
    ['localhost', 'a.localhost', 'metadata.google.internal', 'printer.local', 'x.onion', 'router.home.arpa'].map(
      (host) => `https://${host}/`,
    ),
    /public Internet/,
  ],
  [
    'this machine in decimal, octal, hexadecimal, short and wide forms',
    [
      '127.0.0.1',
      '127.1',
      '2130706433',
      '017700000001',
      '0177.0.0.1',
      '0x7f.1',
      '0x7f000001',
      '127.0.0.1.',
      '①②⑦.0.0.1',
    ]
      .concat(['[::1]', '[0:0:0:0:0:0:0:1]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '0', '0.0.0.0', '[::]'])
      .map((host) => `https://${host}/`),
    /not on the public Internet/,
  ],
  [
    'inner addresses',
    ['10.0.0.1', '192.168.0.1', '172.16.1.1', '100.64.1.1', '169.254.169.254', '[fd00:ec2::254]', '[::ffff:10.0.0.1]']
      .concat(['[64:ff9b::10.0.0.1]', '[2002:a00:1::]', '[fe80::1]', '0xa9fea9fe', '2852039166', '0251.0376.0251.0376'])
      .map((host) => `https://${host}/`),
    /not on the public Internet/,
  ],
])('refuses %s', (_what, texts, why) => {
  for (const text of texts) expect([text, refusalOf(text)]).toEqual([text, expect.stringMatching(why)]);
});

it('takes http and this machine for development, and nothing else that is inside', () => {
  for (const url of [
    'http://localhost:3010/',
    'https://localhost:8443/',
    'http://127.0.0.1:8080/',
    'http://[::1]:8080/',
  ])
    expect(refusalOf(url, atHome)).toBe(`taken: ${url}`);
  expect(refusalOf('http://[::ffff:10.0.0.1]:8080/', atHome)).toMatch(/not on the public Internet/);
  expect(refusalOf('http://169.254.169.254:8080/latest', atHome)).toMatch(/not on the public Internet/);
  expect(refusalOf('http://localhost/', atHome)).toMatch(/port .* must be between .* 80, since the URL names none/);
  expect(refusalOf('http://localhost:443/', atHome)).toMatch(/port .* must be between .* 443\./);
});

it('refuses a host when one of its addresses is inside', () => {
  expect(() => checkAddresses('x.y', ['1.1.1.1', '2606:4700::1'], outside)).not.toThrow();
  expect(() => checkAddresses('x.y', ['1.1.1.1', '10.0.0.1'], outside)).toThrow('x.y has the address 10.0.0.1');
  expect(() => checkAddresses('x.y', ['127.0.0.1'], outside)).toThrow(TargetRefused);
  expect(() => checkAddresses('x.y', ['127.0.0.1', '::1'], atHome)).not.toThrow();
  expect(() => checkAddresses('x.y', ['127.0.0.1', '10.0.0.1'], atHome)).toThrow(TargetRefused);
});

it('refuses the addresses of the operator on the public Internet', () => {
  const denied = new BlockList();
  denied.addSubnet('203.0.114.0', 24, 'ipv4');
  denied.addSubnet('2606:4700::', 32, 'ipv6');
  const options = { ...outside, denied };
  expect(() => checkAddresses('x.y', ['1.1.1.1', '203.0.115.1', '2606:4701::1'], options)).not.toThrow();
  expect(() => checkAddresses('x.y', ['1.1.1.1', '203.0.114.9'], options)).toThrow('x.y has the address 203.0.114.9');
  expect(() => checkAddresses('x.y', ['2606:4700::9'], options)).toThrow(TargetRefused);
  expect(refusalOf('https://203.0.114.9/', options)).toMatch(/to which nothing is delivered/);
  expect(refusalOf('https://[2606:4700::9]/', options)).toMatch(/to which nothing is delivered/);
});
