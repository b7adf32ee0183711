/** Why a verdict is what it is, and what to do about it. Pure: the look-ups were made before. */
import { remedy, type Operation, type Published, type PublishedName } from '../dns-plan';
import type { Assessment, CheckName, Finding } from '../findings';
import { mailHost } from '../records';
import { troubleshooting } from '../troubleshooting';
import { spfLookupLimit, spfVoidLimit, type SpfWalk } from '../verdicts/spf-walk';
import type { Answer, DnsAnswers, Evidence, Expected, MxRr, TxtRr } from '../verdicts';
import { registrableDomain } from '../zone';
import { parentsOf, wildcardProbe, type Clues } from './clues';
import { refine, type Refined } from './refine';

/** `blocking`: the check fails. `breaking`: it passes, and mail suffers now. `warning`: it may one day. */
export type Severity = 'blocking' | 'breaking' | 'warning' | 'info';

/** Beside a verdict, which it never changes. */
export interface Warning {
  /** Stable, snake_case. */
  readonly code: string;
  readonly severity: Exclude<Severity, 'blocking'>;
  /** For people: what it is, and what to do. */
  readonly message: string;
}

/** What one resolver said. */
export interface ResolverEvidence extends Evidence {
  readonly answer: Answer<unknown>['kind'];
  /** CNAMEs on the way. */
  readonly aliases: readonly string[];
  /** Of `unreachable`. */
  readonly reason?: string;
}

export interface Explained extends Finding {
  readonly severity: Severity;
  /** What to look at, for people; null where nothing is to do. */
  readonly hint: string | null;
  readonly warnings: readonly Warning[];
  /** What makes the check pass, in the order to apply. */
  readonly fix: readonly Operation[];
  /** Seconds that what was observed may still be cached, at the resolver that keeps it longest; null when nobody said. */
  readonly ttl: number | null;
  /** Seconds after which asking again can tell more; null where it cannot. */
  readonly retryAfter: number | null;
  /** One a resolver; none for `dkim`. */
  readonly resolvers: readonly ResolverEvidence[];
}

/** SES's `VerificationInfo`. */
export interface SesExplanation {
  /** In lower case, such as `host_not_found`; null when SES names none. */
  readonly errorType: string | null;
  readonly lastCheckedAt: Date | null;
  /** Until when SES goes on looking by itself. */
  readonly deadline: Date;
  /** SES was asked to begin anew. */
  readonly isRestarted: boolean;
}

export interface Explaining {
  readonly assessment: Assessment;
  readonly answers: DnsAnswers;
  readonly clues: Clues;
  /** Of an SPF record that passes, as far as it was followed. */
  readonly spf?: SpfWalk;
  /** Null when SES gave none. */
  readonly ses: SesExplanation | null;
}

/** Seconds; where the DNS gives no time of its own. */
const usualRetry = 60;
/** Seconds; SES looks by itself, and says nothing of when. */
const sesRetry = 300;
/** Seconds; sooner than this the same answer may be given again. */
const soonestRetry = 10;
/** Seconds from which on it is worth a word that an old value stays in caches. */
const longTtl = 3_600;

/** One explanation a finding, in their order. */
export function explain(domain: Expected, explaining: Explaining): Explained[] {
  const { assessment, answers, clues, ses } = explaining;
  return assessment.findings.map((finding): Explained => {
    const resolvers = evidenceOf(finding.check, answers);
    const ttls = resolvers.flatMap((each) => each.ttl ?? []);
    const ttl = ttls.length > 0 ? Math.max(...ttls) : null;
    const refined = finding.check === 'dkim' ? refineDkim(finding, ses) : refine(domain, finding, answers, clues);
    const warnings =
      finding.outcome === 'pass' ? warningsOf(domain, finding, explaining) : nameless(domain, finding, explaining);
    const [first] = warnings;
    const code = refined?.code ?? (finding.code === 'ok' && first ? first.code : finding.code);
    return {
      ...finding,
      code,
      message: refined?.message ?? (finding.code === 'ok' && first ? first.message : finding.message),
      severity: severityOf(finding, warnings),
      hint: hintOf(domain, finding, refined, ttl),
      warnings,
      fix: fixOf(domain, finding, refined, explaining),
      ttl,
      retryAfter: retryAfter(finding, ttl),
      resolvers,
    };
  });
}

/** Seconds after which a domain can be told to be verified, if its records are mended at once; null when it is. */
export const retryAllAfter = (explained: readonly Explained[]): number | null =>
  explained.reduce<number | null>(
    (most, each) => (each.retryAfter === null ? most : Math.max(most ?? 0, each.retryAfter)),
    null,
  );

function answersOf(check: CheckName, answers: DnsAnswers): readonly Answer<unknown>[] {
  const { mx, spf, dmarc, verification } = answers;
  return { mx, spf, dmarc, verification_txt: verification, dkim: [] }[check];
}

const evidenceOf = (check: CheckName, answers: DnsAnswers): ResolverEvidence[] =>
  answersOf(check, answers).map((answer) => ({
    answer: answer.kind,
    aliases: 'aliases' in answer ? answer.aliases : [],
    ...('reason' in answer && { reason: answer.reason }),
    ...answer.evidence,
  }));

// Severity

const severities: Readonly<Record<string, Warning['severity']>> = {
  dmarc_testing_mode: 'breaking',
  mx_foreign_backup: 'warning',
  spf_permissive_all: 'warning',
  dmarc_pct_partial: 'warning',
};

/** @param warnings the worst first. */
function severityOf({ outcome }: Finding, [worst]: readonly Warning[]): Severity {
  if (outcome === 'fail') return 'blocking';
  return outcome === 'indeterminate' ? 'warning' : (worst?.severity ?? 'info');
}

const rank = ['breaking', 'warning', 'info'];
const worstFirst = (warnings: readonly Warning[]): Warning[] =>
  [...warnings].sort((a, b) => rank.indexOf(a.severity) - rank.indexOf(b.severity));

// Warnings

function warningsOf(domain: Expected, finding: Finding, { answers, clues, spf }: Explaining): Warning[] {
  const own: Warning[] =
    finding.code === 'ok'
      ? []
      : [{ code: finding.code, severity: severities[finding.code] ?? 'info', message: finding.message }];
  switch (finding.check) {
    case 'mx':
      return worstFirst([...own, ...wildcardMx(domain, answers, clues), ...mtaSts(domain, clues)]);
    case 'verification_txt':
      return [...own, ...wildcardTxt(domain, finding, clues)];
    case 'spf':
      return worstFirst([...own, ...spfWarnings(spf, clues)]);
    case 'dmarc':
    case 'dkim':
      return own;
  }
}

/** A21: nothing can be placed in a zone that nobody has registered. */
function nameless({ name }: Expected, { check, outcome }: Finding, { answers, clues }: Explaining): Warning[] {
  const zone = registrableDomain(name);
  const isAbsent = zone === name ? answers.mx.some(({ kind }) => kind === 'nxdomain') : clues.nxdomain.has(zone);
  if (check !== 'mx' || outcome !== 'fail' || !isAbsent) return [];
  return [
    {
      code: 'domain_nxdomain',
      severity: 'warning',
      message: `${zone} does not exist in the DNS. Check that it is registered and that its name servers are set.`,
    },
  ];
}

function wildcardTxt({ name }: Expected, { expected }: Finding, { txt }: Clues): Warning[] {
  if (!txt.get(`${wildcardProbe}.${name}`)?.includes(expected)) return [];
  return [
    {
      code: 'wildcard_txt',
      severity: 'warning',
      message: `A wildcard answers with the ownership record for any name below ${name}. Place it at _sendmux.${name} itself: a wildcard ends as soon as that name gets another record.`,
    },
  ];
}

/** A wildcard answers only for a name that has no record of its own: then its whole content is the wildcard's (RFC 4592). */
function wildcardMx({ name }: Expected, answers: DnsAnswers, { mx, txt }: Clues): Warning[] {
  const [parent] = parentsOf(name);
  const probe = `${wildcardProbe}.${parent}`;
  const [probeMx, probeTxt] = [mx.get(probe), txt.get(probe)];
  const [ownMx, ownTxt] = [recordsOf(answers.mx), recordsOf(answers.spf)];
  if (!probeMx || !probeTxt || !ownMx || !ownTxt || probeMx.length === 0) return [];
  const content = (mxs: readonly MxRr[], txts: readonly TxtRr[]) =>
    JSON.stringify([mxs.map(({ preference, exchange }) => `${preference} ${exchange}`).sort(), [...txts].sort()]);
  if (content(probeMx, probeTxt) !== content(ownMx, ownTxt)) return [];
  return [
    {
      code: 'wildcard_mx',
      severity: 'warning',
      message: `The MX is the wildcard’s, *.${parent}: ${name} has no record of its own. Once it has one, such as the SPF record, the wildcard answers no more for it (RFC 4592 section 2.2.1). Place an MX at ${name} itself.`,
    },
  ];
}

function recordsOf<Rr>(answers: readonly Answer<Rr>[]): readonly Rr[] | undefined {
  const definite = answers.find(({ kind }) => kind === 'records' || kind === 'nodata' || kind === 'nxdomain');
  return definite && (definite.kind === 'records' ? definite.records : []);
}

function mtaSts({ name }: Expected, { txt }: Clues): Warning[] {
  const at = `_mta-sts.${name}`;
  if (!txt.get(at)?.some((text) => /^v=STSv1\s*(;|$)/.test(text))) return [];
  return [
    {
      code: 'mta_sts_present',
      severity: 'warning',
      message: `${at} announces an MTA-STS policy. If its mode is enforce and it does not list mx: ${mailHost}, senders refuse to deliver (RFC 8461): add that line, or remove the policy.`,
    },
  ];
}

function spfWarnings(spf: SpfWalk | undefined, { nxdomain }: Clues): Warning[] {
  if (!spf) return [];
  const warnings: Warning[] = [];
  if (spf.lookups > spfLookupLimit)
    warnings.push({
      code: 'spf_too_many_lookups',
      severity: 'breaking',
      message: `The SPF record needs more than ${spfLookupLimit} look-ups, and receivers then take it for an error (RFC 7208 section 4.6.4). Remove what you do not use, or ask your vendors for shorter records.`,
    });
  const voids = [...spf.targets].filter(([, target]) => target.kind === 'none' && target.isVoid).map(([name]) => name);
  const dangling = voids.filter((name) => nxdomain.has(registrableDomain(name)));
  if (dangling.length > 0)
    warnings.push({
      code: 'spf_dangling_include',
      severity: 'warning',
      message: `The SPF record leaves the word to ${dangling.join(', ')}, which nobody has registered: whoever does may send mail as you. Remove it.`,
    });
  if (voids.length > spfVoidLimit)
    warnings.push({
      code: 'spf_void_lookups',
      severity: 'warning',
      message: `The SPF record leads to names with no record (${voids.join(', ')}), and receivers may give up after ${spfVoidLimit} of them (RFC 7208 section 4.6.4). Remove them.`,
    });
  return warnings;
}

// What to do

function hintOf(domain: Expected, finding: Finding, refined: Refined | undefined, ttl: number | null): string | null {
  const { check, outcome, code, observed } = finding;
  if (outcome === 'pass') return null;
  const hints =
    code === 'cname_at_name' && check === 'spf'
      ? ['This is mended together with the MX.']
      : code === 'dns_servfail' || code === 'dnssec_bogus'
        ? ['No record can be seen until this is mended, whatever it says.']
        : troubleshooting(check, domain);
  const isCached = outcome === 'fail' && observed.length > 0 && ttl !== null && ttl >= longTtl;
  const cached = isCached
    ? [`Resolvers may keep the old value for up to ${Math.ceil(ttl / 3_600)} h after you change it.`]
    : [];
  return [...cached, ...hints].join(' ');
}

function published({ name }: Expected, answers: DnsAnswers, clues: Clues): Published {
  const nowhere: PublishedName = { exists: false, cname: null, txt: [], mx: [] };
  const at = (of: readonly Answer<TxtRr>[], mx: readonly Answer<MxRr>[] = []): PublishedName => ({
    ...nowhere,
    cname: of.flatMap((answer) => ('aliases' in answer ? answer.aliases : []))[0] ?? null,
    txt: recordsOf(of) ?? [],
    mx: recordsOf(mx) ?? [],
  });
  return {
    domain: at(answers.spf, answers.mx),
    verification: at(answers.verification),
    dmarc: at(answers.dmarc),
    dkim: [],
    inheritedDmarc: parentsOf(name).flatMap((parent) => clues.txt.get(`_dmarc.${parent}`) ?? []),
    spfTargets: answers.spfTargets,
    wildcards: { beside: undefined, below: nowhere },
  };
}

/** Nothing where no record is to blame. */
function fixOf(
  domain: Expected,
  finding: Finding,
  refined: Refined | undefined,
  { answers, clues }: Explaining,
): Operation[] {
  const { check, outcome, code } = finding;
  if (outcome !== 'fail' || code === 'dns_servfail' || code === 'dnssec_bogus' || code === 'dkim_not_started')
    return [];
  const operations = remedy(domain, check, published(domain, answers, clues));
  const misplaced = refined?.misplaced;
  const moved = misplaced
    ? [
        {
          action: 'delete' as const,
          name: misplaced.name,
          type: misplaced.type,
          values: [misplaced.value],
          replaces: [],
          ttl: null,
          reason: 'Nobody looks for it here.',
        },
      ]
    : [];
  return [...moved, ...operations];
}

function refineDkim({ code, message }: Finding, ses: SesExplanation | null): Refined | undefined {
  if (!ses || (code !== 'dkim_pending' && code !== 'dkim_failed')) return undefined;
  if (ses.isRestarted)
    return {
      code: 'dkim_restarted',
      message:
        'Amazon SES had given up on the DKIM records after 72 hours. We have asked it to look again, for the same records.',
    };
  const looked = ses.lastCheckedAt ? ` It last looked at ${shown(ses.lastCheckedAt)}.` : '';
  const until = code === 'dkim_pending' ? ` It goes on looking until ${shown(ses.deadline)}.` : '';
  switch (ses.errorType) {
    case 'invalid_value':
      return {
        code: 'dkim_wrong_target',
        message: `Amazon SES has found a DKIM record with another target than its own.${looked}${until}`,
      };
    case 'host_not_found':
      return { code, message: `Amazon SES does not find all three DKIM records.${looked}${until}` };
    case 'type_not_found':
      return { code, message: `At a DKIM name, Amazon SES finds something else than a CNAME.${looked}${until}` };
    case 'dns_server_error':
      return { code, message: `The name servers of the domain answer Amazon SES with an error.${looked}${until}` };
    default:
      return looked ? { code, message: `${message}${looked}${until}` } : undefined;
  }
}

const shown = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`;

function retryAfter({ check, outcome, code }: Finding, ttl: number | null): number | null {
  if (outcome === 'pass') return null;
  if (check === 'dkim') return sesRetry;
  return Math.max(soonestRetry, ttl ?? (code === 'resolver_disagreement' ? 2 * usualRetry : usualRetry));
}
