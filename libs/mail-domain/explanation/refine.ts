/** What the clues tell of a record that is not where it should be. Pure. */
import type { Finding } from '../findings';
import { inheritedPolicy } from '../merge-dmarc';

import { dmarcValue, mailHost, mailHostPreference, spfValue, verificationPrefix } from '../records';
import { judge, type Answer, type DnsAnswers, type Expected, type MxRr, type TxtRr } from '../verdicts';
import { relativeHost } from '../zone';
import { appended, nothingThere, parentsOf, type Clues } from './clues';

/** A better word for a verdict, which stays as it is. */
export interface Refined {
  readonly code: string;
  readonly message: string;
  /** A record of the customer's that nobody needs where it is. */
  readonly misplaced?: { readonly name: string; readonly type: 'MX' | 'TXT'; readonly value: string };
}

const nothing: readonly Answer<never>[] = [{ kind: 'nodata', aliases: [] }];
const unasked = { mx: nothing, spf: nothing, dmarc: nothing, verification: nothing };

/** Whether records would pass, had they been at the name where they belong. */
function wouldPass(domain: Expected, answers: Partial<DnsAnswers>, check: Finding['check']): boolean {
  return judge(domain, { ...unasked, ...answers }, 'success').findings.some(
    (finding) => finding.check === check && finding.outcome === 'pass',
  );
}
const said = <Rr>(records: readonly Rr[]): readonly Answer<Rr>[] =>
  records.length > 0 ? [{ kind: 'records', records, aliases: [] }] : nothing;

/** Undefined where nothing explains it better than the finding does. */
export function refine(domain: Expected, finding: Finding, answers: DnsAnswers, clues: Clues): Refined | undefined {
  if (finding.outcome !== 'fail') return undefined;
  switch (finding.check) {
    case 'mx':
      return finding.code === 'mx_missing' ? misplacedMx(domain, clues) : alias(domain, finding, clues);
    case 'verification_txt':
      return nothingThere.has(finding.code) ? misplacedOwnership(domain, finding, answers, clues) : undefined;
    case 'spf':
      return finding.code === 'spf_missing' ? misplacedSpf(domain, clues) : undefined;
    case 'dmarc':
      return finding.code === 'dmarc_missing' ? misplacedDmarc(domain, finding, answers, clues) : undefined;
    case 'dkim':
      return undefined;
  }
}

/** The record is whole, and the provider has put its zone behind it. */
function autoAppended<Rr>(
  { name: domain }: Expected,
  { name, type }: { readonly name: string; readonly type: 'MX' | 'TXT' },
  records: ReadonlyMap<string, readonly Rr[]>,
  right: (rrs: readonly Rr[]) => string | undefined,
): Refined | undefined {
  for (const at of appended(name, domain)) {
    const value = right(records.get(at) ?? []);
    if (value === undefined) continue;
    const host = relativeHost(name, at.slice(name.length + 1));
    return {
      code: 'name_auto_appended',
      message: `The record is at ${at}: your DNS provider appends the zone by itself. Enter ${host} as its name, so that it becomes ${name}.`,
      misplaced: { name: at, type, value },
    };
  }
  return undefined;
}

/** The right record, at the same place of a parent. */
function onParent(
  { name: domain }: Expected,
  at: (name: string) => string,
  isRight: (name: string) => boolean,
  expected: string,
): Refined | undefined {
  const parent = parentsOf(domain).find((each) => isRight(at(each)));
  return parent === undefined
    ? undefined
    : {
        code: 'record_on_parent',
        message: `The record is at ${at(parent)}, but you registered ${domain} with Sendmux: add ${expected} at ${at(domain)}.`,
      };
}

function misplacedMx(domain: Expected, { mx }: Clues): Refined | undefined {
  const isOurs = ({ preference, exchange }: MxRr) => preference === mailHostPreference && exchange === mailHost;
  const expected = `${mailHostPreference} ${mailHost}`;
  return (
    autoAppended(domain, { name: domain.name, type: 'MX' }, mx, (rrs) => (rrs.some(isOurs) ? expected : undefined)) ??
    onParent(
      domain,
      (zone) => zone,
      (zone) => mx.get(zone)?.some(isOurs) ?? false,
      `the MX ${expected}`,
    )
  );
}

function alias({ name }: Expected, { observed }: Finding, { cname }: Clues): Refined | undefined {
  const target = observed.map((rr) => rr.slice(rr.indexOf(' ') + 1)).find((host) => cname.get(host)?.[0] === mailHost);
  return target === undefined
    ? undefined
    : {
        code: 'mx_target_alias',
        message: `The MX of ${name} points to ${target}, which is an alias (CNAME) of ${mailHost}. An MX must not name an alias (RFC 2181 section 10.3): set its target to ${mailHost} itself.`,
      };
}

function misplacedOwnership(
  domain: Expected,
  { name }: Finding,
  { spf }: DnsAnswers,
  { txt }: Clues,
): Refined | undefined {
  const expected = verificationPrefix + domain.team;
  const isRight = (at: string) => txt.get(at)?.includes(expected) ?? false;
  const atDomain = ownTxt(spf).includes(expected);
  return (
    autoAppended(domain, { name, type: 'TXT' }, txt, (rrs) => rrs.find((rr) => rr === expected)) ??
    (atDomain ? wrongName(domain, name, expected) : undefined) ??
    onParent(domain, (zone) => `_sendmux.${zone}`, isRight, `the TXT record ${expected}`)
  );
}

/** TXT of the domain itself: what a CNAME leads to is somebody else's. */
const ownTxt = (answers: DnsAnswers['spf']): readonly TxtRr[] =>
  answers.flatMap((answer) => (answer.kind === 'records' && answer.aliases.length === 0 ? answer.records : []));

const wrongName = ({ name: domain }: Expected, name: string, value: string): Refined => ({
  code: 'record_on_wrong_name',
  message: `The record is at ${domain}. Move it to ${name}.`,
  misplaced: { name: domain, type: 'TXT', value },
});

function misplacedSpf(domain: Expected, { txt }: Clues): Refined | undefined {
  const passing = (rrs: readonly TxtRr[]) => wouldPass(domain, { spf: said(rrs) }, 'spf');
  const record = (rrs: readonly TxtRr[]) => rrs.find((rr) => passing([rr]));
  return (
    autoAppended(domain, { name: domain.name, type: 'TXT' }, txt, record) ??
    onParent(
      domain,
      (zone) => zone,
      (zone) => passing(txt.get(zone) ?? []),
      `the TXT record ${spfValue}`,
    )
  );
}

function misplacedDmarc(domain: Expected, { name }: Finding, { spf }: DnsAnswers, { txt }: Clues): Refined | undefined {
  const passing = (rr: TxtRr) => wouldPass(domain, { dmarc: said([rr]) }, 'dmarc');
  const atDomain = ownTxt(spf).find(passing);
  const parent = parentsOf(domain.name).find((zone) => inheritedPolicy(txt.get(`_dmarc.${zone}`) ?? []) !== undefined);
  const inherited = parent === undefined ? undefined : inheritedPolicy(txt.get(`_dmarc.${parent}`)!);
  return (
    autoAppended(domain, { name, type: 'TXT' }, txt, (rrs) => rrs.find(passing)) ??
    (atDomain === undefined ? undefined : wrongName(domain, name, atDomain)) ??
    (inherited === undefined
      ? undefined
      : {
          code: 'dmarc_inherited_only',
          message: `There is no DMARC record at ${name}. ${domain.name} inherits p=${inherited} from ${parent}, but the record is needed here: add ${
            inherited === 'reject'
              ? 'v=DMARC1; p=reject, which is no weaker than what is inherited.'
              : `${dmarcValue}, or p=reject.`
          }`,
        })
  );
}
