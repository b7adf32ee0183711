/** What to do to a zone so that a domain verifies, against what stands there now. Pure: the look-ups were made before. */
import type { CheckName } from './findings';
import { inheritedPolicy, looksLikeDmarc, mergeDmarc } from './merge-dmarc';
import { leftOutOfSpf, looksLikeSpf, mergeSpf } from './merge-spf';
import { escaped, setUpTtl, type RecordSet } from './record-sets';
import { dnsRecords, mailHost, mailHostPreference } from './records';
import { judge, type Answer, type DnsAnswers, type Expected, type MxRr, type TxtRr } from './verdicts';

/** The records of a name that bear on mail. */
export interface PublishedName {
  /** False after NXDOMAIN: the name has no record of any type, and none stands below it. */
  readonly exists: boolean;
  /** Its target; the name then has no other record (RFC 1034 section 3.6.2). */
  readonly cname: string | null;
  /** At `_dmarc` names, also those that the CNAME leads to. */
  readonly txt: readonly TxtRr[];
  readonly mx: readonly MxRr[];
}

/** What the DNS has now. */
export interface Published {
  readonly domain: PublishedName;
  readonly verification: PublishedName;
  readonly dmarc: PublishedName;
  readonly dkim: readonly (PublishedName & { readonly token: string })[];
  /** TXT at `_dmarc` of the parents, as far as the registrable domain. */
  readonly inheritedDmarc: readonly TxtRr[];
  /** TXT at the names that the SPF record leads to. */
  readonly spfTargets?: DnsAnswers['spfTargets'];
  /** What answers for names that nobody has published. */
  readonly wildcards: {
    /** For a sibling of the domain; undefined where the domain has none of its own. */
    readonly beside: PublishedName | undefined;
    /** For a name below the domain. */
    readonly below: PublishedName;
  };
}

/**
 * One step. Values of the same name and type that no operation names are left alone. They are written as `RecordSet`
 * writes them.
 */
export interface Operation {
  /** `replace` takes `replaces` away and puts `values` in their place. */
  readonly action: 'delete' | 'replace' | 'create' | 'keep';
  /** FQDN without the trailing dot. */
  readonly name: string;
  readonly type: RecordSet['type'];
  /** What stands there afterwards; of a `delete`, what is taken away. */
  readonly values: readonly string[];
  readonly replaces: readonly string[];
  /** Seconds, for what is written; null where nothing is. */
  readonly ttl: number | null;
  /** For people: a sentence or two. */
  readonly reason: string;
}

type Place = Pick<Operation, 'name' | 'type'>;
const change = (
  action: Operation['action'],
  { name, type }: Place,
  values: readonly string[],
  reason: string,
  replaces: readonly string[] = [],
): Operation => ({
  action,
  name,
  type,
  values,
  replaces,
  ttl: action === 'create' || action === 'replace' ? setUpTtl : null,
  reason,
});

const order: readonly Operation['action'][] = ['delete', 'replace', 'create', 'keep'];

/** In the order to apply: deletions first, since a name with a CNAME takes no other record. All `keep`: nothing to do. */
export function dnsPlan(domain: Expected, published: Published): Operation[] {
  const own = withoutWildcards(published);
  const operations = [
    ...atDomain(domain, own),
    ...atDmarc(domain, own),
    ...atVerification(domain, own.verification),
    ...atDkim(domain, own.dkim),
  ];
  return inOrder(operations);
}

const inOrder = (operations: readonly Operation[]): Operation[] =>
  [...operations].sort((a, b) => order.indexOf(a.action) - order.indexOf(b.action));

/** The part of the plan that makes one check pass, in the order to apply; of DKIM, whose records are not looked at, all three. */
export function remedy(domain: Expected, check: CheckName, published: Published): Operation[] {
  const { domain: own } = published;
  const steps = {
    mx: () => [...cnameAtDomain(domain, own), ...atMx(domain.name, own.cname === null ? own.mx : [])],
    spf: () => atSpf(domain, own.cname === null ? own.txt : [], published.spfTargets),
    dmarc: () => atDmarc(domain, published),
    verification_txt: () => atVerification(domain, published.verification),
    dkim: () =>
      dnsRecords(domain).dkim.map(({ name, value }) =>
        change('create', { name, type: 'CNAME' }, [value], 'DKIM: in place of whatever stands there.'),
      ),
  };
  return inOrder(steps[check]().filter(({ action }) => action !== 'keep'));
}

/**
 * What is published at the names themselves. A wildcard stops answering for a name as soon as it has any record (RFC 4592
 * section 2.2.1), so nothing of what it gives can be counted on.
 */
function withoutWildcards(published: Published): Published {
  const { domain, verification, dmarc, dkim, wildcards } = published;
  const bare = { cname: null, txt: [], mx: [] };
  const isEmpty = ({ cname, txt, mx }: PublishedName) => cname === null && txt.length + mx.length === 0;
  const content = ({ cname, txt, mx }: PublishedName) =>
    JSON.stringify([cname, [...txt].sort(), mx.map(({ preference, exchange }) => `${preference} ${exchange}`).sort()]);
  const unless = <Name extends PublishedName>(name: Name, wildcard: PublishedName | undefined): Name =>
    wildcard && !isEmpty(wildcard) && content(name) === content(wildcard) ? { ...name, ...bare } : name;
  return {
    ...published,
    domain: unless(domain, wildcards.beside),
    verification: unless(verification, wildcards.below),
    dmarc: unless(dmarc, wildcards.below),
    dkim: dkim.map((name) => unless(name, wildcards.below)),
  };
}

function withoutCname({ cname }: PublishedName, name: string, reason: string): Operation[] {
  return cname === null ? [] : [change('delete', { name, type: 'CNAME' }, [cname], reason)];
}

function atDomain(domain: Expected, { domain: own, spfTargets }: Published): Operation[] {
  const { cname, mx, txt } = own;
  if (cname !== null) return [...cnameAtDomain(domain, own), ...atMx(domain.name, []), ...atSpf(domain, [])];
  return [...atMx(domain.name, mx), ...atSpf(domain, txt, spfTargets)];
}

const cnameAtDomain = ({ name }: Expected, own: PublishedName): Operation[] =>
  withoutCname(
    own,
    name,
    `A name with a CNAME can have no MX or TXT record. What ${own.cname} serves for ${name} stops, so move it or choose a subdomain of its own for mail.`,
  );

function atMx(name: string, mx: readonly MxRr[]): Operation[] {
  const place: Place = { name, type: 'MX' };
  const shown = ({ preference, exchange }: MxRr) => `${preference} ${exchange || '.'}`;
  const expected = `${mailHostPreference} ${mailHost}`;
  const unique = [...new Map(mx.map((rr) => [shown(rr), rr])).values()].sort((a, b) =>
    a.preference === b.preference ? (a.exchange < b.exchange ? -1 : 1) : a.preference - b.preference,
  );
  const ours = unique.filter(({ exchange }) => exchange === mailHost);
  const inPlace = ours.some(({ preference }) => preference === mailHostPreference);
  return [
    inPlace
      ? change('keep', place, [expected], 'The MX record is in place.')
      : ours.length > 0
        ? change('replace', place, [expected], `The priority has to be ${mailHostPreference}.`, ours.map(shown))
        : change('create', place, [expected], 'Routes inbound mail to Sendmux.'),
    ...unique
      .filter(({ exchange }) => exchange !== mailHost)
      .map((rr) => {
        const value = shown(rr);
        if (rr.exchange === '')
          return change('delete', place, [value], `A null MX says that ${name} accepts no mail (RFC 7505).`);
        if (rr.preference > mailHostPreference)
          return change('keep', place, [value], 'A backup: mail may reach it when ours is not reachable.');
        return change(
          'delete',
          place,
          [value],
          `Mail goes to ${rr.exchange} ${rr.preference < mailHostPreference ? 'first' : 'as often as to us'}. Delete it, or give it a priority above ${mailHostPreference} to keep it as a backup.`,
        );
      }),
  ];
}

const nothing: readonly Answer<never>[] = [{ kind: 'nodata', aliases: [] }];
const said = (txt: readonly TxtRr[]): readonly Answer<TxtRr>[] =>
  txt.length > 0 ? [{ kind: 'records', records: txt, aliases: [] }] : nothing;

/** Whether the verdict on these TXT records is a pass: a plan leaves alone what a check accepts. */
function passes(
  domain: Expected,
  check: 'spf' | 'dmarc' | 'verification',
  txt: readonly TxtRr[],
  spfTargets?: DnsAnswers['spfTargets'],
): boolean {
  const answers = { mx: nothing, spf: nothing, dmarc: nothing, verification: nothing, spfTargets, [check]: said(txt) };
  const name = check === 'verification' ? 'verification_txt' : check;
  return judge(domain, answers, 'success').findings.some(
    (finding) => finding.check === name && finding.outcome === 'pass',
  );
}

function atSpf(domain: Expected, txt: readonly TxtRr[], targets?: DnsAnswers['spfTargets']): Operation[] {
  const place: Place = { name: domain.name, type: 'TXT' };
  const present = [...new Set(txt.filter(looksLikeSpf))].sort();
  if (passes(domain, 'spf', txt, targets))
    return [change('keep', place, present, 'The SPF record authorises Sendmux.')];
  const merged = mergeSpf(present);
  if (present.length === 0) return [change('create', place, [merged], 'SPF: authorises SES and Sendmux’s relays.')];
  const reason =
    present.length > 1
      ? 'Only one SPF record is allowed at a name: this one has the terms of all, and both of our includes.'
      : 'The SPF record there, with both of our includes before its end.';
  const leftOut = leftOutOfSpf(present).map((term) => `“${escaped(term)}”`);
  const told = leftOut.length > 0 ? ` Left out, because no receiver can read it: ${leftOut.join(', ')}.` : '';
  return [change('replace', place, [merged], reason + told, present)];
}

function atVerification(domain: Expected, { cname, txt }: PublishedName): Operation[] {
  const { name, value } = dnsRecords(domain).verification;
  const place: Place = { name, type: 'TXT' };
  if (cname === null && passes(domain, 'verification', txt))
    return [change('keep', place, [value], 'The ownership record is in place.')];
  const bare = (text: string) =>
    text
      .toLowerCase()
      .replace(/^.*sendmux-verify=/s, '')
      .replace(/[^a-z0-9_]/g, '');
  // Others may prove their ownership here as well: only what was meant as ours is replaced.
  const mistaken = cname === null ? [...new Set(txt.filter((text) => bare(text) === bare(value)))].sort() : [];
  return [
    ...withoutCname(
      { exists: true, cname, txt, mx: [] },
      name,
      'What somebody else publishes does not prove ownership: the TXT record has to stand here itself.',
    ),
    mistaken.length > 0
      ? change('replace', place, [value], 'The value has to be exact.', mistaken)
      : change('create', place, [value], 'Proves that the domain is your team’s.'),
  ];
}

function atDmarc(domain: Expected, { dmarc: { cname, txt }, inheritedDmarc }: Published): Operation[] {
  const { name } = dnsRecords(domain).dmarc;
  const place: Place = { name, type: 'TXT' };
  const present = [...new Set(txt.filter(looksLikeDmarc))].sort();
  if (passes(domain, 'dmarc', txt)) {
    if (cname !== null)
      return [
        change('keep', { name, type: 'CNAME' }, [cname], 'The DMARC record that this leads to is strong enough.'),
      ];
    return [change('keep', place, present, 'The DMARC record is strong enough.')];
  }
  const inherited = inheritedPolicy(inheritedDmarc);
  const merged = mergeDmarc(present, inherited);
  if (cname !== null)
    return [
      ...withoutCname(
        { exists: true, cname, txt, mx: [] },
        name,
        'The DMARC record that this leads to is too weak, or none: it has to stand here itself.',
      ),
      change('create', place, [merged], 'DMARC, with the tags of the record that the CNAME led to.'),
    ];
  if (present.length > 0)
    return [
      change(
        'replace',
        place,
        [merged],
        'One valid DMARC record, at least p=quarantine and no weaker than before.',
        present,
      ),
    ];
  const reason =
    inherited === 'reject'
      ? 'DMARC, as strong as the policy that the domain inherits now.'
      : 'DMARC: receivers quarantine mail that fails alignment.';
  return [change('create', place, [merged], reason)];
}

function atDkim(domain: Expected, published: Published['dkim']): Operation[] {
  return dnsRecords(domain).dkim.flatMap(({ name, value }, i): Operation[] => {
    const { cname, txt } = published.find(({ token }) => token === domain.dkimTokens[i])!;
    const place: Place = { name, type: 'CNAME' };
    if (cname === value) return [change('keep', place, [value], 'The DKIM record is in place.')];
    if (cname !== null)
      return [change('replace', place, [value], 'Amazon SES looks for exactly this target.', [cname])];
    return [
      ...(txt.length > 0
        ? [change('delete', { name, type: 'TXT' }, [...txt].sort(), 'A name with a CNAME can have no TXT record.')]
        : []),
      change('create', place, [value], 'DKIM: Amazon SES signs with a key that it publishes there.'),
    ];
  });
}
