import { runInNewContext } from 'node:vm';
import { parse } from 'yaml';
import { characterStrings, escaped, rdata } from './record-set';
import { dnsRecords, recordSets } from './records';
import { possibleZones, registrableDomain, relativeHost } from './zone';
import { zoneFile, zoneFileFormats } from './zone-file';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const apex = { ...domain, name: 'acme.com' };
const render = (format: keyof typeof zoneFileFormats, of = domain) => zoneFile(format, of, 'acme.com');

describe('records relative to their zone', () => {
  it.each([
    ['mail.acme.com', 'acme.com', 'mail'],
    ['acme.com', 'acme.com', '@'],
    ['a.b.acme.co.uk', 'acme.co.uk', 'a.b'],
    ['x.acme.github.io', 'acme.github.io', 'x'],
  ])('%s stands in %s as %s', (name, zone, host) => {
    expect(registrableDomain(name)).toBe(zone);
    expect(relativeHost(name, zone)).toBe(host);
    const { mx, dmarc, dkim, verification, spf } = dnsRecords({ ...domain, name });
    expect([mx[0]!.host, spf.host]).toEqual([host, host]);
    const below = host === '@' ? '' : `.${host}`;
    expect([dmarc.host, verification.host]).toEqual([`_dmarc${below}`, `_sendmux${below}`]);
    expect(dkim.map((one) => one.host)).toEqual(['token1', 'token2', 'token3'].map((t) => `${t}._domainkey${below}`));
  });

  it('looks for the zone from the name up to the registrable domain', () => {
    expect(possibleZones('a.b.acme.co.uk')).toEqual(['a.b.acme.co.uk', 'b.acme.co.uk', 'acme.co.uk']);
    expect(possibleZones('acme.com')).toEqual(['acme.com']);
    const long = `${'a.'.repeat(90)}acme.com`;
    expect(possibleZones(long)).toHaveLength(8);
    expect(possibleZones(long).slice(0, 2)).toEqual([long, 'a.a.a.a.a.a.acme.com']);
    expect(possibleZones(long).slice(-2)).toEqual(['a.acme.com', 'acme.com']);
  });
});

describe('values in a master file', () => {
  it('cuts a TXT value of more than 255 octets into strings, and loses none', () => {
    const long = 'x'.repeat(255) + 'y'.repeat(255) + 'z';
    expect(characterStrings(long).map(({ length }) => length)).toEqual([255, 255, 1]);
    expect(characterStrings(long).join('')).toBe(long);
    expect(rdata('TXT', long)).toBe(`"${'x'.repeat(255)}" "${'y'.repeat(255)}" "z"`);
    expect(rdata('TXT', '')).toBe('""');
  });

  it('escapes quotes, backslashes and what cannot be seen', () => {
    expect(rdata('TXT', 'a"b\\c\td\xff;')).toBe('"a\\"b\\092c\\009d\\255;"');
    expect(escaped('a"b\\')).toBe('a"b\\092');
    expect(rdata('MX', '10 mail.sendmux.ai')).toBe('10 mail.sendmux.ai.');
    expect(rdata('MX', '0 .')).toBe('0 .');
  });
});

describe('a zone file', () => {
  it('for BIND, word for word', () => {
    expect(render('bind')).toBe(`mail.acme.com. 300 IN MX 10 mail.sendmux.ai.
bounce.mail.acme.com. 300 IN MX 10 feedback-smtp.eu-west-1.amazonses.com.
mail.acme.com. 300 IN TXT "v=spf1 include:amazonses.com include:sendmux.ai ~all"
_dmarc.mail.acme.com. 300 IN TXT "v=DMARC1; p=quarantine"
_sendmux.mail.acme.com. 300 IN TXT "sendmux-verify=team_abc123"
bounce.mail.acme.com. 300 IN TXT "v=spf1 include:amazonses.com ~all"
token1._domainkey.mail.acme.com. 300 IN CNAME token1.dkim.amazonses.com.
token2._domainkey.mail.acme.com. 300 IN CNAME token2.dkim.amazonses.com.
token3._domainkey.mail.acme.com. 300 IN CNAME token3.dkim.amazonses.com.
`);
  });

  it('for nsupdate adds each record', () => {
    const lines = render('nsupdate').trimEnd().split('\n');
    expect(lines[0]).toBe('update add mail.acme.com. 300 MX 10 mail.sendmux.ai.');
    expect([lines.length, lines.at(-1)]).toEqual([recordSets(domain).length + 1, 'send']);
  });

  it('for Route 53 is a change batch with every record', () => {
    const { Changes } = JSON.parse(render('route53')) as {
      Changes: {
        Action: string;
        ResourceRecordSet: { Name: string; Type: string; TTL: number; ResourceRecords: { Value: string }[] };
      }[];
    };
    expect(
      Changes.map(({ ResourceRecordSet: set }) => [set.Name, set.Type, set.ResourceRecords.map(({ Value }) => Value)]),
    ).toEqual(
      recordSets(domain).map(({ name, type, values }) => [`${name}.`, type, values.map((value) => rdata(type, value))]),
    );
    expect(new Set(Changes.map(({ Action, ResourceRecordSet: { TTL } }) => `${Action} ${TTL}`))).toEqual(
      new Set(['CREATE 300']),
    );
  });

  it.each([domain, apex])('for octoDNS is YAML with every record of $name', (of) => {
    type Entry = {
      ttl: number;
      type: string;
      value?: string;
      values?: (string | { exchange: string; preference: number })[];
    };
    const zone = parse(render('octodns', of)) as Record<string, Entry[]>;
    const found = Object.entries(zone).flatMap(([host, entries]) =>
      entries.flatMap(({ type, value, values = [value!] }) =>
        values.map((one) => [
          host === '' ? 'acme.com' : `${host}.acme.com`,
          type,
          typeof one === 'string'
            ? one.replace(/\\;/g, ';').replace(/\.$/, '')
            : `${one.preference} ${one.exchange.slice(0, -1)}`,
        ]),
      ),
    );
    expect(found.sort()).toEqual(
      recordSets(of)
        .map(({ name, type, values }) => [name, type, values[0]])
        .sort(),
    );
  });

  it('for octoDNS has its keys in the order that octoDNS insists on: 7 before 12', () => {
    const text = render('octodns', { ...apex, dkimTokens: ['12abc', 'x10y', '7abc', 'x9z'] });
    expect([...text.matchAll(/^"(.*)":$/gm)].map(([, key]) => key)).toEqual([
      '',
      '7abc._domainkey',
      '12abc._domainkey',
      '_dmarc',
      '_sendmux',
      'bounce',
      'x9z._domainkey',
      'x10y._domainkey',
    ]);
  });

  it.each([domain, apex])('for DNSControl is JavaScript that adds every record of $name', (of) => {
    const call =
      (type: string) =>
      (host: string, ...values: unknown[]) => [type, host, values.slice(0, -1).join(' '), values.at(-1)];
    const added: unknown[][] = [];
    runInNewContext(render('dnscontrol', of), {
      MX: call('MX'),
      TXT: call('TXT'),
      CNAME: call('CNAME'),
      TTL: (seconds: number) => seconds,
      D_EXTEND: (...all: unknown[]) => added.push(all),
    });
    expect(added).toEqual([
      [
        'acme.com',
        ...recordSets(of).map(({ name, type, values }) => [
          type,
          relativeHost(name, 'acme.com'),
          type === 'TXT' ? values[0]! : `${values[0]}.`,
          300,
        ]),
      ],
    ]);
  });

  it('for Terraform has a resource of its own for every record', () => {
    const text = render('terraform');
    const resources = [...text.matchAll(/resource "aws_route53_record" "([a-z0-9_-]+)" \{\n([^}]*)\}/g)];
    expect(new Set(resources.map(([, label]) => label)).size).toBe(recordSets(domain).length);
    const read = resources.map(([, , body]) =>
      ['name', 'type', 'records'].map((key) => JSON.parse(new RegExp(`${key} += (.*)`).exec(body!)![1]!) as unknown),
    );
    expect(read).toEqual(
      recordSets(domain).map(({ name, type, values }) => [name, type, type === 'TXT' ? values : [`${values[0]}.`]]),
    );
  });

  it('M8: for Terraform declares nothing that the file of another domain in the same directory declares', () => {
    const names = ['acme.com', 'mail.acme.com', 'mail-acme.com', 'a-b.c.com', 'a.b-c.com', 'a.b.c.com', '9.acme.com'];
    const declared = names.flatMap((name) =>
      [...render('terraform', { ...domain, name }).matchAll(/^(?:variable|resource "\w+") "(.*)" \{$/gm)].map(
        ([, identifier]) => identifier!,
      ),
    );
    expect(new Set(declared).size).toBe(names.length * (1 + recordSets(domain).length));
    // Terraform's identifiers begin with a letter or an underscore.
    for (const identifier of declared) expect(identifier).toMatch(/^[a-z_][a-z0-9_-]*$/);
  });

  it('M8: for Terraform uses the variable that it declares', () => {
    const text = render('terraform');
    expect(text).toMatch(/^variable "zone_id_mail_acme_com" \{$/m);
    expect(new Set([...text.matchAll(/zone_id += (\S+)/g)].map(([, used]) => used))).toEqual(
      new Set(['var.zone_id_mail_acme_com']),
    );
  });
});
