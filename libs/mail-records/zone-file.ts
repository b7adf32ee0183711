/** Renders the records of a domain for the tools that people manage their zones with. */
import type { Expected } from './check';
import { characterStrings, rdata, setUpTtl, type RecordSet } from './record-set';
import { recordSets } from './records';
import { relativeHost } from './zone';

interface Format {
  /** Media type of the text. */
  readonly mediaType: string;
  /** Extension of a file with the text. */
  readonly extension: string;
  /** Whether the text names records relative to their zone. */
  readonly relative: boolean;
  /**
   * @param zone that names are relative to.
   * @param domain whose records they are.
   */
  readonly render: (sets: readonly RecordSet[], zone: string, domain: string) => string;
}

const lines = (...all: readonly string[]): string => `${all.join('\n')}\n`;

/** The master file of RFC 1035 section 5, for BIND, Knot, NSD, and the import of most DNS providers. */
const bind: Format = {
  mediaType: 'text/dns; charset=utf-8',
  extension: 'zone',
  relative: false,
  render: (sets) =>
    lines(
      ...sets.flatMap(({ name, type, values }) =>
        values.map((value) => `${name}. ${setUpTtl} IN ${type} ${rdata(type, value)}`),
      ),
    ),
};

/** Writes a Terraform string: JSON's escapes, and no interpolation. */
const hcl = (text: string): string => JSON.stringify(text).replace(/\$\{/g, '$$${').replace(/%\{/g, '%%{');

/**
 * Names something in a Terraform module. No two domain names, nor two records of one, get the same identifier: a
 * hostname has no underscore, and a record only one at the beginning of a label.
 */
const terraformName = (kind: string, name: string): string => `${kind}_${name}`.replace(/[^a-z0-9_-]/g, '_');

/**
 * `aws_route53_record` of Terraform's AWS provider, which puts the outer quotes round a TXT value itself. All files of
 * one directory are one module, so that the variable has the domain in its name as well.
 */
const terraform: Format = {
  mediaType: 'text/plain; charset=utf-8',
  extension: 'tf',
  relative: false,
  render: (sets, _zone, domain) =>
    lines(
      `variable "${terraformName('zone_id', domain)}" {`,
      '  type        = string',
      `  description = ${hcl(`Hosted zone that holds the records of ${domain}`)}`,
      '}',
      ...sets.flatMap(({ name, type, values }) => [
        '',
        `resource "aws_route53_record" "${terraformName(type.toLowerCase(), name)}" {`,
        `  zone_id = var.${terraformName('zone_id', domain)}`,
        `  name    = ${hcl(name)}`,
        `  type    = ${hcl(type)}`,
        `  ttl     = ${setUpTtl}`,
        `  records = [${values
          .map((value) => hcl(type === 'TXT' ? characterStrings(value).join('""') : rdata(type, value)))
          .join(', ')}]`,
        '}',
      ]),
    ),
};

/**
 * A change batch for `aws route53 change-resource-record-sets`. CREATE is refused where UPSERT would overwrite other
 * values.
 */
const route53: Format = {
  mediaType: 'application/json; charset=utf-8',
  extension: 'json',
  relative: false,
  render: (sets) =>
    lines(
      JSON.stringify(
        {
          Changes: sets.map(({ name, type, values }) => ({
            Action: 'CREATE',
            ResourceRecordSet: {
              Name: `${name}.`,
              Type: type,
              TTL: setUpTtl,
              ResourceRecords: values.map((value) => ({ Value: rdata(type, value) })),
            },
          })),
        },
        null,
        2,
      ),
    ),
};

/** A zone of octoDNS's YamlProvider, which wants semicolons escaped, and splits long TXT values itself. */
const octodns: Format = {
  mediaType: 'application/yaml; charset=utf-8',
  extension: 'yaml',
  relative: true,
  render: (sets, zone) => {
    const hosts = new Map<string, RecordSet[]>();
    for (const set of sets) hosts.set(set.name, [...(hosts.get(set.name) ?? []), set]);
    // octoDNS refuses keys in another order.
    const sorted = [...hosts].map(([name, own]) => [relativeHost(name, zone), own] as const);
    sorted.sort(([a], [b]) => byNature(a, b));
    return lines(
      '---',
      ...sorted.flatMap(([host, own]) => [
        `${JSON.stringify(host === '@' ? '' : host)}:`,
        ...own.flatMap(({ type, values }) => [
          `  - ttl: ${setUpTtl}`,
          `    type: ${type}`,
          ...(type === 'CNAME'
            ? [`    value: ${JSON.stringify(rdata(type, values[0]!))}`]
            : ['    values:', ...values.flatMap((value) => octodnsValue(type, value))]),
        ]),
      ]),
    );
  },
};

/** Compares names so that a run of digits counts as its number. */
function byNature(a: string, b: string): number {
  const [left, right] = [a, b].map((name) => (name === '@' ? '' : name).split(/(\d+)/)) as [string[], string[]];
  for (let i = 0; i < left.length && i < right.length; i++) {
    const [x, y] = [left[i]!, right[i]!];
    const difference = i % 2 === 1 ? Number(x) - Number(y) : x < y ? -1 : x > y ? 1 : 0;
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

function octodnsValue(type: RecordSet['type'], value: string): string[] {
  if (type === 'TXT') return [`      - ${JSON.stringify(value.replace(/;/g, '\\;'))}`];
  const [preference, exchange] = rdata(type, value).split(' ') as [string, string];
  return [`      - exchange: ${JSON.stringify(exchange)}`, `        preference: ${preference}`];
}

/** An extension of a zone that `dnsconfig.js` already has. DNSControl splits long TXT values itself. */
const dnscontrol: Format = {
  mediaType: 'text/javascript; charset=utf-8',
  extension: 'js',
  relative: true,
  render: (sets, zone) => {
    const calls = sets.flatMap(({ name, type, values }) =>
      values.map((value) => {
        const host = JSON.stringify(relativeHost(name, zone));
        if (type === 'TXT') return `TXT(${host}, ${JSON.stringify(value)}, TTL(${setUpTtl}))`;
        if (type === 'CNAME') return `CNAME(${host}, ${JSON.stringify(rdata(type, value))}, TTL(${setUpTtl}))`;
        const [preference, exchange] = rdata(type, value).split(' ') as [string, string];
        return `MX(${host}, ${preference}, ${JSON.stringify(exchange)}, TTL(${setUpTtl}))`;
      }),
    );
    return lines(`D_EXTEND(${JSON.stringify(zone)},`, calls.map((call) => `  ${call}`).join(',\n'), ');');
  },
};

/** DNS UPDATE (RFC 2136). The tool finds the zone and its server itself, unless a `server` line is put in front. */
const nsupdate: Format = {
  mediaType: 'text/plain; charset=utf-8',
  extension: 'nsupdate',
  relative: false,
  render: (sets) =>
    lines(
      ...sets.flatMap(({ name, type, values }) =>
        values.map((value) => `update add ${name}. ${setUpTtl} ${type} ${rdata(type, value)}`),
      ),
      'send',
    ),
};

export const zoneFileFormats = { bind, terraform, route53, octodns, dnscontrol, nsupdate } as const;
export type ZoneFileFormat = keyof typeof zoneFileFormats;

/**
 * Renders all records of a domain, ready to apply to a zone that has none of them yet.
 *
 * @param zone that will hold the records; octodns and dnscontrol name records relative to it.
 */
export const zoneFile = (format: ZoneFileFormat, domain: Expected, zone: string): string =>
  zoneFileFormats[format].render(recordSets(domain), zone, domain.name);
