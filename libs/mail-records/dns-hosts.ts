/** Recognises who hosts a zone by the names of its name servers, and says what trips people there. Pure. */

/** Who hosts a zone, and how to place records there. */
export interface DnsHost {
  /** Names the host for people, such as `Cloudflare`; null where the name servers are nobody’s that we know. */
  readonly name: string | null;
  readonly zone: string;
  /** Lower case, without the trailing dot, sorted; sixteen at most. They come from the DNS of others. */
  readonly nameservers: readonly string[];
  /** Sentences for people, in Australian English. */
  readonly advice: readonly string[];
}

/** What a host's form does to what is entered, where that is known. Each is a sentence of advice. */
type Habit = (zone: string) => string;

const priorityInValue: Habit = () =>
  'Enter the priority and the target of an MX record in one field: 10 and a space first.';
const dotAtEnd: Habit = (zone) =>
  `End the target of an MX or CNAME record with a dot. Without it, .${zone} may be put behind the target.`;
const quotes: Habit = () => 'Enter the value of a TXT record within double quotation marks ("…").';
const blankTop: Habit = (zone) => `For ${zone} itself leave the name empty, where we write @.`;
const atTop: Habit = (zone) => `For ${zone} itself enter @ as the name.`;
const valuesTogether: Habit = () =>
  'A name has one record of a type there, with a line for each value. Where the name has TXT values already, add a line to them.';
const dnsOnly: Habit = () =>
  'Set the proxy status of each CNAME record to “DNS only”, the grey cloud. A proxied CNAME cannot be seen by others, and DKIM fails.';
const customMx: Habit = () =>
  'Under “Mail Settings” choose “Custom MX” before you enter an MX record. Other choices there hide or remove it.';
const othersDns: Habit = () =>
  'Other services of the same company may have placed MX and SPF records there for you. Look at those before you add ours.';

interface Known {
  readonly name: string;
  /** Ends of the names of its name servers, of two or three labels; `*` after `awsdns-` stands for digits. */
  readonly suffixes: readonly string[];
  readonly habits?: readonly Habit[];
}

const ends = (name: string, ...tops: string[]): string[] => tops.map((top) => `${name}.${top}`);

/** Hosts by the names of their name servers, as they publish them. */
const hosts: readonly Known[] = [
  {
    name: 'Cloudflare',
    suffixes: ['ns.cloudflare.com', 'secondary.cloudflare.com', ...ends('foundationdns', 'com', 'net', 'org')],
    habits: [dnsOnly, atTop],
  },
  {
    name: 'Amazon Route 53',
    suffixes: ends('awsdns-*', 'com', 'net', 'org', 'co.uk'),
    habits: [quotes, priorityInValue, blankTop, valuesTogether],
  },
  { name: 'Google Cloud DNS', suffixes: ['googledomains.com'], habits: [quotes, dotAtEnd, blankTop, valuesTogether] },
  { name: 'Azure DNS', suffixes: ends('azure-dns', 'com', 'net', 'org', 'info'), habits: [atTop, valuesTogether] },
  { name: 'GoDaddy', suffixes: ['domaincontrol.com'], habits: [atTop] },
  { name: 'Namecheap', suffixes: ['registrar-servers.com'], habits: [customMx, atTop] },
  { name: 'Namecheap hosting', suffixes: ['namecheaphosting.com'], habits: [dotAtEnd] },
  { name: 'DigitalOcean', suffixes: ['digitalocean.com'], habits: [atTop] },
  { name: 'Gandi', suffixes: ['gandi.net'], habits: [dotAtEnd, atTop] },
  { name: 'OVHcloud', suffixes: ['ovh.net', 'ovh.ca', 'anycast.me'], habits: [dotAtEnd, blankTop] },
  {
    name: 'Hetzner',
    suffixes: ['ns.hetzner.com', 'ns.hetzner.de', 'first-ns.de', 'second-ns.de', 'second-ns.com'],
    habits: [dotAtEnd, atTop],
  },
  { name: 'Akamai Cloud (Linode)', suffixes: ['linode.com'], habits: [blankTop] },
  { name: 'Vultr', suffixes: ['vultr.com'] },
  {
    name: 'DNSimple',
    suffixes: ['dnsimple.com', 'dnsimple-edge.net', 'dnsimple-edge.org', 'dnsimple-edge.com'],
    habits: [blankTop],
  },
  { name: 'NS1 or Netlify', suffixes: ['nsone.net'] },
  { name: 'Vercel', suffixes: ['vercel-dns.com'] },
  { name: 'Squarespace', suffixes: ['squarespacedns.com'], habits: [atTop, othersDns] },
  { name: 'Wix', suffixes: ['wixdns.net'], habits: [othersDns] },
  { name: 'IONOS', suffixes: ends('ui-dns', 'com', 'de', 'org', 'biz'), habits: [atTop, othersDns] },
  { name: 'Porkbun', suffixes: ['porkbun.com'], habits: [blankTop] },
  { name: 'Hover', suffixes: ['hover.com'], habits: [atTop] },
  { name: 'Name.com', suffixes: ['name.com'], habits: [blankTop] },
  { name: 'Dynadot', suffixes: ['dyna-ns.net', 'dynadot.com'] },
  { name: 'Bunny DNS', suffixes: ['bunny.net'], habits: [blankTop] },
  { name: 'Akamai Edge DNS', suffixes: ['akam.net'] },
  { name: 'UltraDNS', suffixes: ends('ultradns', 'com', 'net', 'org', 'biz', 'info', 'co.uk') },
  { name: 'Crazy Domains', suffixes: ['crazydomains.com', 'syrahost.com'] },
  { name: 'VentraIP', suffixes: ['nameserver.net.au'] },
  { name: 'easyDNS', suffixes: ends('easydns', 'com', 'net', 'org', 'info') },
  { name: 'deSEC', suffixes: ['desec.io', 'desec.org'], habits: [quotes, dotAtEnd, priorityInValue, valuesTogether] },
  { name: '1984', suffixes: ['1984.is', '1984hosting.com'] },
  { name: 'Infomaniak', suffixes: ['infomaniak.ch', 'infomaniak.com'] },
  { name: 'STRATO', suffixes: ['rzone.de'], habits: [othersDns] },
  { name: 'TransIP', suffixes: ends('transip', 'net', 'nl', 'eu'), habits: [dotAtEnd, atTop] },
  { name: 'one.com', suffixes: ['one.com'], habits: [othersDns] },
  { name: 'Hostinger', suffixes: ['dns-parking.com'], habits: [atTop, othersDns] },
  { name: 'Bluehost', suffixes: ['bluehost.com'], habits: [othersDns] },
  { name: 'HostGator', suffixes: ['hostgator.com'], habits: [othersDns] },
  { name: 'DreamHost', suffixes: ['dreamhost.com'], habits: [othersDns] },
  { name: 'SiteGround', suffixes: ['siteground.net'], habits: [othersDns] },
  { name: 'Network Solutions', suffixes: ['worldnic.com'], habits: [othersDns] },
  { name: 'WordPress.com', suffixes: ['wordpress.com'] },
  { name: 'Hurricane Electric', suffixes: ['he.net'] },
  { name: 'ClouDNS', suffixes: ['cloudns.net'] },
  { name: 'DNS Made Easy', suffixes: ['dnsmadeeasy.com'] },
  { name: 'Alibaba Cloud DNS', suffixes: ['alidns.com', 'hichina.com'] },
];

/** The names of all hosts that are known. */
export const knownDnsHosts: readonly string[] = hosts.map(({ name }) => name);

const nameserversLimit = 16;

const bySuffix = new Map(hosts.flatMap((host) => host.suffixes.map((suffix) => [suffix, host] as const)));
/** How many labels the ends of the table have. */
const [fewestLabels, mostLabels] = [2, 3];

/**
 * Finds the host of a name server by the longest end of its name that is known. The first label is the server's own.
 */
function hostOfServer(server: string): Known | undefined {
  const labels = server.split('.').slice(-mostLabels - 1);
  for (let count = Math.min(mostLabels, labels.length - 1); count >= fewestLabels; count--) {
    const end = labels.slice(-count).map((label) => label.replace(/^awsdns-\d{1,3}$/, 'awsdns-*'));
    const host = bySuffix.get(end.join('.'));
    if (host) return host;
  }
  return undefined;
}

/**
 * Gives the host of a zone by its name servers: the one that most of them belong to.
 *
 * @param zone as the DNS has it.
 * @param nameservers targets of its NS records, in any case and order. They may be hostile: they are only compared, and
 * handed on.
 */
export function dnsHost(zone: string, nameservers: readonly string[]): DnsHost {
  const servers = [...new Set(nameservers.map((name) => name.toLowerCase().replace(/\.$/, '')))].sort();
  const counts = new Map<Known, number>();
  for (const server of servers.slice(0, nameserversLimit)) {
    const host = hostOfServer(server);
    if (host) counts.set(host, (counts.get(host) ?? 0) + 1);
  }
  const known = [...counts].sort(([, a], [, b]) => b - a)[0]?.[0];
  const relative = `Enter names relative to ${zone}: most DNS hosts put .${zone} behind whatever is entered. A full name would end in .${zone}.${zone} there.`;
  return {
    name: known?.name ?? null,
    zone,
    nameservers: servers.slice(0, nameserversLimit),
    advice: [relative, ...(known?.habits ?? []).map((habit) => habit(zone))],
  };
}
