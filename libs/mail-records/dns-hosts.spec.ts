import { dnsHost, knownDnsHosts } from './dns-hosts';

it('knows at least twenty-five hosts, each once', () => {
  expect(knownDnsHosts.length).toBeGreaterThanOrEqual(25);
  expect(new Set(knownDnsHosts).size).toBe(knownDnsHosts.length);
});

it.each([
  ['Cloudflare', ['ada.ns.cloudflare.com', 'bob.ns.cloudflare.com']],
  [
    'Amazon Route 53',
    ['ns-1.awsdns-00.com', 'ns-1537.awsdns-09.co.uk', 'ns-600.awsdns-11.net', 'ns-1100.awsdns-09.org'],
  ],
  ['Google Cloud DNS', ['ns-cloud-a1.googledomains.com', 'ns-cloud-a2.googledomains.com']],
  ['Azure DNS', ['ns1-01.azure-dns.com', 'ns2-01.azure-dns.net']],
  ['GoDaddy', ['ns51.domaincontrol.com', 'ns52.domaincontrol.com']],
  ['Namecheap', ['dns1.registrar-servers.com', 'dns2.registrar-servers.com']],
  ['Hetzner', ['hydrogen.ns.hetzner.com', 'helium.ns.hetzner.de']],
  ['IONOS', ['ns1045.ui-dns.de', 'ns1045.ui-dns.com']],
  ['Porkbun', ['curitiba.ns.porkbun.com']],
  ['VentraIP', ['ns1.nameserver.net.au']],
  ['Gandi', ['NS-12-A.GANDI.NET.']],
  // Most of them count, and the end of a name counts at a dot only.
  ['Amazon Route 53', ['dns1.p01.nsone.net', 'ns-1.awsdns-00.com', 'ns-600.awsdns-11.net']],
  [null, ['ns1.notdomaincontrol.com', 'domaincontrol.com', 'ns1.awsdns-xx.com', 'ns.cloudflare.com.example.net']],
  [null, []],
])('recognises %s by its name servers', (name, servers) =>
  expect(dnsHost('acme.com', servers)).toMatchObject({ name }),
);

it('says what trips people there, in terms of the zone', () => {
  expect(dnsHost('acme.com', ['ada.ns.cloudflare.com']).advice.join(' ')).toMatch(/acme\.com.*DNS only/);
  expect(dnsHost('acme.com', ['ns-1.awsdns-00.com']).advice.join(' ')).toContain('quotation marks');
  expect(dnsHost('acme.com', ['dns1.registrar-servers.com']).advice.join(' ')).toContain('Custom MX');
  for (const servers of [['ns51.domaincontrol.com'], ['ns1.example.net']])
    expect(dnsHost('acme.com', servers).advice[0]).toContain('relative to acme.com');
});

it('names the servers of an unknown host as data, sorted, once, and sixteen at most', () => {
  const servers = Array.from({ length: 40 }, (_, i) => `ns${i}.<b>\u202e.example.net`);
  const host = dnsHost('acme.com', [...servers, ...servers]);
  expect(host.nameservers).toHaveLength(16);
  expect(host.nameservers[0]).toBe('ns0.<b>\u202e.example.net');
  expect(host.advice.join(' ')).not.toContain('<b>');
});
