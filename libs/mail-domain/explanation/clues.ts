/** What to look up besides, once a customer wants to know why: it explains a verdict, and decides none. Pure. */
import type { CheckName, Finding } from '../findings';
import { mailHost, spfIncludes } from '../records';
import { walkSpf } from '../verdicts/spf-walk';
import { isSpf } from '../verdicts/spf';
import type { Answer, DnsAnswers, Expected, MxRr, TxtRr } from '../verdicts';
import { registrableDomain, possibleZones } from '../zone';

/** Names to ask for, by type. */
export interface ClueQuestions {
  readonly txt: readonly string[];
  readonly mx: readonly string[];
  readonly cname: readonly string[];
}

/** What was answered, by name; what is not in here was not asked, or nobody answered. A definite negative has no records. */
export interface Clues {
  readonly txt: ReadonlyMap<string, readonly TxtRr[]>;
  readonly mx: ReadonlyMap<string, readonly MxRr[]>;
  /** The targets, one or none. */
  readonly cname: ReadonlyMap<string, readonly string[]>;
  /** Names that do not exist. */
  readonly nxdomain: ReadonlySet<string>;
}

export const noClues: Clues = { txt: new Map(), mx: new Map(), cname: new Map(), nxdomain: new Set() };

/** A label that nobody publishes by hand: only a wildcard answers for it. */
export const wildcardProbe = '_sendmux-wildcard-probe';

/** Parents that are looked at: the nearest two, and the registrable domain. */
export function parentsOf(name: string): string[] {
  const parents = possibleZones(name).slice(1);
  return parents.length <= 3 ? parents : [...parents.slice(0, 2), parents.at(-1)!];
}

/** What a name becomes where a DNS provider appends the zone to what is already whole. */
export const appended = (at: string, domain: string): string[] =>
  [domain, ...parentsOf(domain)].map((zone) => `${at}.${zone}`).filter((name) => name.length <= 253);

/** Codes of an ownership record that is not there, whatever else is. */
export const nothingThere: ReadonlySet<string> = new Set([
  'txt_missing',
  'txt_missing_nodata',
  'txt_wrong_value',
  'txt_other_team',
]);

/**
 * At most four dozen names, and none where the verdict needs no explanation.
 *
 * @param findings of the look.
 */
export function clueQuestions({ name }: Expected, findings: readonly Finding[]): ClueQuestions {
  const txt = new Set<string>();
  const mx = new Set<string>();
  const cname = new Set<string>();
  const add = (to: Set<string>, ...names: readonly string[]) => names.forEach((each) => to.add(each));
  const parents = parentsOf(name);
  const of = (check: CheckName) => findings.find((finding) => finding.check === check)!;

  const ownership = of('verification_txt');
  if (ownership.outcome === 'pass') add(txt, `${wildcardProbe}.${name}`);
  else if (nothingThere.has(ownership.code))
    add(txt, ...appended(ownership.name, name), ...parents.map((parent) => `_sendmux.${parent}`));

  const route = of('mx');
  if (route.outcome === 'pass') {
    add(txt, `_mta-sts.${name}`);
    if (parents[0] !== undefined) {
      add(mx, `${wildcardProbe}.${parents[0]}`);
      add(txt, `${wildcardProbe}.${parents[0]}`);
    }
  } else if (route.code === 'mx_missing') add(mx, ...appended(name, name), ...parents, registrableDomain(name));
  else if (route.code === 'mx_wrong_target')
    add(cname, ...route.observed.map((rr) => rr.slice(rr.indexOf(' ') + 1)).filter(isAskable));

  if (of('spf').code === 'spf_missing') add(txt, ...appended(name, name), ...parents);

  const policy = of('dmarc');
  if (policy.code === 'dmarc_missing')
    add(txt, ...appended(policy.name, name), ...parents.map((parent) => `_dmarc.${parent}`));
  return { txt: [...txt], mx: [...mx], cname: [...cname].slice(0, 3) };
}

const isAskable = (host: string): boolean => host !== mailHost && host !== '.' && host.includes('.');

/** The walk of the domain's one SPF record; undefined where there is none. Our own includes are ours to keep right: they count, and are not followed. */
export function spfWalk(spf: DnsAnswers['spf'], targets: ReadonlyMap<string, readonly Answer<TxtRr>[]>) {
  const answer = spf.find(({ kind }) => kind === 'records');
  const records = answer?.kind === 'records' ? answer.records.filter(isSpf) : [];
  return records.length === 1 ? walkSpf(records[0]!, (name) => targets.get(name), spfIncludes) : undefined;
}
