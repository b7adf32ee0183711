/**
 * The verdicts: what a set of answers says about a domain. Pure, and stable: equal answers give equal findings, whatever
 * order they came in. Rows of the table of cases are named in the tests.
 */
import type { Assessment, CheckName, Finding, SesDkimStatus } from '../findings';
import {
  dmarcValue,
  dnsRecords,
  mailHost,
  mailHostPreference,
  spfIncludes,
  spfValue,
  verificationPrefix,
} from '../records';
import { isDmarc, lacksSemicolon, parseDmarc } from './dmarc';
import { quorum, type Answer, type Definite, type MxRr, type TxtRr } from './quorum';
import { isSpf, parseSpf } from './spf';

/** The domain whose records are expected. */
export interface Expected {
  readonly name: string;
  readonly team: string;
  readonly dkimTokens: readonly string[];
  readonly dkimZone: string;
}

/** What each resolver said to the four questions. */
export interface DnsAnswers {
  readonly mx: readonly Answer<MxRr>[];
  /** TXT at the domain, where SPF lives. */
  readonly spf: readonly Answer<TxtRr>[];
  readonly dmarc: readonly Answer<TxtRr>[];
  readonly verification: readonly Answer<TxtRr>[];
}

/** `DkimAttributes.Status`, or why there is none. */
export type DkimAnswer = SesDkimStatus | 'unavailable' | 'identity_missing';

/** One finding a check, in the order of `checkNames`. */
export function judge(domain: Expected, answers: DnsAnswers, dkim: DkimAnswer): Assessment {
  return {
    findings: [
      judgeMx(domain, answers.mx),
      judgeVerification(domain, answers.verification),
      judgeSpf(domain, answers.spf),
      judgeDmarc(domain, answers.dmarc),
      judgeDkim(domain, dkim),
    ],
    sesDkimStatus: dkim === 'unavailable' || dkim === 'identity_missing' ? null : dkim,
  };
}

type Said = Pick<Finding, 'outcome' | 'code' | 'message'>;
const pass = (code = 'ok', message = 'The record is in place.'): Said => ({ outcome: 'pass', code, message });
const fail = (code: string, message: string): Said => ({ outcome: 'fail', code, message });
const undecided = (code: string, message: string): Said => ({ outcome: 'indeterminate', code, message });

interface Question<Rr> {
  readonly check: CheckName;
  readonly type: Finding['type'];
  readonly name: string;
  readonly expected: string;
  readonly present: (rr: Rr) => string;
  /** Nobody has such a record. */
  readonly missing: (kind: 'nxdomain' | 'nodata') => Said;
  readonly decide: (records: readonly Rr[], aliases: readonly string[]) => Said;
}

/** What is the same for every question: an answer that is none, one that is not agreed on, none at all. */
function finding<Rr>(question: Question<Rr>, answers: readonly Answer<Rr>[]): Finding {
  const { check, type, name, expected, present } = question;
  const inOrder = (rrs: readonly Rr[]) =>
    [...new Map(rrs.map((rr) => [present(rr), rr]))].sort(([a], [b]) => (a < b ? -1 : 1));
  // Servers rotate the order of records; the words of a finding must not change with it.
  const decided = (answer: Definite<Rr>): Said =>
    answer.kind !== 'records' && answer.aliases.length === 0
      ? question.missing(answer.kind)
      : question.decide(answer.kind === 'records' ? inOrder(answer.records).map(([, rr]) => rr) : [], answer.aliases);
  // Resolvers differ between NXDOMAIN and NODATA while a record propagates; neither has the record.
  const meaning = (answer: Definite<Rr>) =>
    answer.kind !== 'records' && answer.aliases.length === 0 ? 'nothing' : decided(answer).code;

  const answer = quorum(answers, meaning);
  const observed = 'records' in answer ? inOrder(answer.records).map(([text]) => text) : [];
  const about = { check, name, type, expected, observed };
  switch (answer.kind) {
    case 'unreachable':
      return {
        ...about,
        ...undecided(
          'resolver_unreachable',
          `We could not look up ${type} at ${name} just now; nothing has changed. Try again in a minute.`,
        ),
      };
    case 'disagreement':
      return {
        ...about,
        ...undecided(
          'resolver_disagreement',
          `Resolvers still give different answers for ${type} at ${name}: the change is propagating. Wait 2–5 minutes and retry.`,
        ),
      };
    case 'servfail':
      return {
        ...about,
        ...fail(
          'dns_servfail',
          `Your DNS provider’s name servers fail for ${name} (SERVFAIL). Check the zone and its DNSSEC signatures with your provider.`,
        ),
      };
    default:
      return { ...about, ...decided(answer) };
  }
}

const parentOf = (name: string): string => name.slice(name.indexOf('.') + 1);

const cnameAtName = (name: string, target: string): Said =>
  fail(
    'cname_at_name',
    `${name} is a CNAME to ${target}. A name with a CNAME can have no MX or TXT record (RFC 1034 section 3.6.2): remove the CNAME, or add a subdomain of its own for mail.`,
  );

// MX

/** Receivers that customers are likely to come from, by the end of the exchange's name. */
const providers: readonly (readonly [string, string])[] = [
  ['google.com', 'Google Workspace'],
  ['googlemail.com', 'Google Workspace'],
  ['outlook.com', 'Microsoft 365'],
  ['zoho.com', 'Zoho Mail'],
  ['messagingengine.com', 'Fastmail'],
  ['protonmail.ch', 'Proton Mail'],
  ['icloud.com', 'iCloud Mail'],
];

function judgeMx({ name }: Expected, answers: readonly Answer<MxRr>[]): Finding {
  const set = `Set MX ${mailHostPreference} ${mailHost} on ${name}`;
  return finding<MxRr>(
    {
      check: 'mx',
      type: 'MX',
      name,
      expected: `${mailHostPreference} ${mailHost}`,
      present: ({ preference, exchange }) => `${preference} ${exchange || '.'}`,
      missing: () =>
        fail(
          'mx_missing',
          `There is no MX record at ${name}, and an address record does not stand in for one. ${set}. Make sure it is on ${name}, not on ${parentOf(name)}, and, if your DNS provider can proxy records, set to “DNS only”.`,
        ),
      decide: (records, aliases) => {
        if (aliases.length > 0) return cnameAtName(name, aliases[0]!);
        if (records.some(({ exchange }) => exchange === ''))
          return fail(
            'mx_null',
            `${name} has a null MX: it says that it accepts no mail (RFC 7505). ${set} and remove the null MX.`,
          );
        const best = [...records].sort((a, b) => a.preference - b.preference);
        const ours = best.filter(({ exchange }) => exchange === mailHost);
        const foreign = best.filter(({ exchange }) => exchange !== mailHost);
        const at = (host: MxRr) => `${host.preference} ${host.exchange}`;
        if (!ours.some(({ preference }) => preference === mailHostPreference)) {
          if (ours.length > 0)
            return fail(
              'mx_wrong_priority',
              `The MX to ${mailHost} has priority ${ours[0]!.preference}. Check the priority is ${mailHostPreference}.`,
            );
          const address = foreign.find(({ exchange }) => /^\d+(\.\d+){3}$/.test(exchange) || exchange.includes(':'));
          if (address)
            return fail(
              'mx_target_is_ip',
              `The MX target ${address.exchange} is an IP address; a hostname is needed (RFC 1035 section 3.3.9). ${set}.`,
            );
          const host = foreign[0]!;
          const provider = providers.find(([end]) => host.exchange === end || host.exchange.endsWith(`.${end}`))?.[1];
          return fail(
            'mx_wrong_target',
            `The MX of ${name} points to ${host.exchange}${provider ? `: ${provider} is receiving now` : ''}. Check that the target is exactly ${mailHost}, without an alias or a proxy in between. ${set}.`,
          );
        }
        const before = foreign.find(({ preference }) => preference < mailHostPreference);
        if (before)
          return fail(
            'mx_shadowed',
            `Mail goes to ${at(before)} first. Remove that MX, or give it a priority above ${mailHostPreference}.`,
          );
        const beside = foreign.find(({ preference }) => preference === mailHostPreference);
        if (beside)
          return fail(
            'mx_split',
            `Mail is shared between ${mailHost} and ${beside.exchange}, which have the same priority (RFC 5321 section 5.1). Remove ${at(beside)}.`,
          );
        if (foreign.length > 0)
          return pass(
            'mx_foreign_backup',
            `The record is in place. Mail may also reach ${at(foreign[0]!)} when ours is not reachable.`,
          );
        return pass();
      },
    },
    answers,
  );
}

// Ownership

/** Bytes beyond printable ASCII as \DDD (RFC 1035 section 5.1), so that what cannot be seen is seen. */
const visible = (text: string): string =>
  // eslint-disable-next-line no-control-regex -- these are the characters to escape
  text.replace(/[\x00-\x1f\x7f-\xff\\]/g, (byte) => `\\${byte.charCodeAt(0).toString().padStart(3, '0')}`);

function judgeVerification({ name: domain, team }: Expected, answers: readonly Answer<TxtRr>[]): Finding {
  const name = `_sendmux.${domain}`;
  const expected = verificationPrefix + team;
  const missing = `Confirm the record name is exactly ${name}: some DNS providers append the zone by themselves, which makes it ${name}.${domain} or ${name}.${parentOf(domain)}. Wait 2–5 minutes and retry.`;
  return finding<TxtRr>(
    {
      check: 'verification_txt',
      type: 'TXT',
      name,
      expected,
      present: visible,
      missing: (kind) =>
        kind === 'nxdomain'
          ? fail('txt_missing', `The ownership record is not there. ${missing}`)
          : fail('txt_missing_nodata', `${name} exists, but has no TXT record. Check that the type is TXT. ${missing}`),
      decide: (records, aliases) => {
        if (aliases.length > 0)
          return fail(
            'verification_via_cname',
            `${name} is a CNAME to ${aliases[0]}. Place the TXT record at ${name} itself: what somebody else publishes does not prove that ${domain} is yours.`,
          );
        if (records.includes(expected)) return pass();
        const like = (test: (text: string) => boolean) => records.some(test);
        if (like((text) => text.includes(`"${expected}"`)))
          return fail(
            'txt_literal_quotes',
            `The value has quote characters in it. Your DNS provider adds its own: enter ${expected} without quotes.`,
          );
        if (like((text) => text.trim() === expected && text !== expected))
          return fail('txt_whitespace', `The value has white space around it. It must be exactly ${expected}.`);
        if (like((text) => /[^\x20-\x7e]/.test(text) && text.replace(/[^\x21-\x7e]/g, '') === expected))
          return fail(
            'invisible_characters',
            `The value has characters in it that cannot be seen (shown as \\ and a number). Type ${expected} by hand.`,
          );
        if (like((text) => text.toLowerCase() === expected.toLowerCase()))
          return fail('txt_case', `The value is case-sensitive. It must be exactly ${expected}.`);
        if (like((text) => text === team))
          return fail(
            'txt_prefix_missing',
            `The value lacks its prefix. Confirm that it is ${expected}, including ${verificationPrefix}`,
          );
        if (like((text) => text.startsWith(verificationPrefix)))
          return fail(
            'txt_other_team',
            `This token belongs to another Sendmux team. Confirm that the value is ${expected}, with your team’s public ID.`,
          );
        return fail('txt_wrong_value', `There is a TXT record at ${name}, but none with the value ${expected}.`);
      },
    },
    answers,
  );
}

// SPF

function judgeSpf({ name }: Expected, answers: readonly Answer<TxtRr>[]): Finding {
  const includes = spfIncludes.map((host) => `include:${host}`).join(' ');
  return finding<TxtRr>(
    {
      check: 'spf',
      type: 'TXT',
      name,
      expected: spfValue,
      present: visible,
      missing: () =>
        fail(
          'spf_missing',
          `There is no SPF record at ${name}. Add the TXT record ${spfValue} on ${name}, not on ${parentOf(name)}.`,
        ),
      decide: (records, aliases) => {
        if (aliases.length > 0) return cnameAtName(name, aliases[0]!);
        const spf = records.filter(isSpf);
        if (spf.length > 1)
          return fail(
            'spf_multiple',
            `${name} has ${spf.length} SPF records, and only one per hostname is allowed (RFC 7208 section 4.5). Merge all include: mechanisms into one record, with ${includes} in it, and delete the others: ${mergedAll(spf)}`,
          );
        if (spf.length === 0) {
          const shifted = records.some((text) => isSpf(text.replace(/^[\s\xa0\xef\xbb\xbf"]+/, '')));
          return shifted
            ? fail(
                'spf_leading_whitespace',
                `The record at ${name} has characters before v=spf1, so it is not an SPF record. Enter it again without them.`,
              )
            : fail('spf_missing', `${name} has TXT records, but no SPF record among them. Add ${spfValue}.`);
        }
        return judgeSpfRecord(spf[0]!, includes);
      },
    },
    answers,
  );
}

function judgeSpfRecord(text: string, includes: string): Said {
  const record = parseSpf(text);
  if ('syntaxError' in record)
    return fail(
      'spf_syntax',
      `The SPF record cannot be read at “${visible(record.syntaxError)}”. Check for typos: terms are separated by spaces, with none inside them.`,
    );
  const { terms } = record;
  const all = terms.findIndex((term) => term.kind === 'mechanism' && term.name === 'all');
  const reached = all < 0 ? terms : terms.slice(0, all);
  const includesOf = (list: typeof terms) =>
    list.filter((term) => term.kind === 'mechanism' && term.name === 'include');
  const missing = spfIncludes.filter(
    (host) =>
      !includesOf(reached).some((term) => term.value === host && 'qualifier' in term && /^\+?$/.test(term.qualifier)),
  );
  if (missing.length > 0) {
    const qualified = includesOf(reached).find((term) => (missing as string[]).includes(term.value));
    if (qualified)
      return fail(
        'spf_include_qualifier',
        `include:${qualified.value} has a qualifier that does not authorise it. Write it as include:${qualified.value}.`,
      );
    if (includesOf(terms).some((term) => (missing as string[]).includes(term.value)))
      return fail('spf_include_after_all', `What stands after “all” is never read. Put ${includes} before it.`);
    const named = missing.map((host) => `include:${host}`).join(' and ');
    if (includesOf(terms).some((term) => term.value.includes('%')))
      return fail(
        'spf_macro',
        `The record leaves its includes to a macro, so ${named} cannot be seen in it. Ask the vendor of your hosted SPF to add both includes.`,
      );
    return fail(
      'spf_include_missing',
      `The SPF record lacks ${named}. Merge it into the record you have: ${merged(text, missing)}`,
    );
  }
  // Prefix lengths and addresses are not kept: a/24 and a/16 would look alike.
  const comparable = terms.filter((term) => term.kind === 'mechanism' && /^(all|include|exists)$/.test(term.name));
  const repeated = comparable.find(
    ({ name, value }, i) => comparable.findIndex((term) => term.name === name && term.value === value) < i,
  );
  const last = terms[all];
  const redirect = terms.some((term) => term.kind === 'modifier' && term.name === 'redirect');
  if (last ? 'qualifier' in last && /^[+?]?$/.test(last.qualifier) : !redirect)
    return pass(
      'spf_permissive_all',
      'The record is in place. It does not say what to do with mail from elsewhere: end it with ~all or -all.',
    );
  if (repeated)
    return pass(
      'spf_duplicate_term',
      `The record is in place. It has ${repeated.name}${repeated.value && `:${repeated.value}`} twice, which costs receivers look-ups: remove one.`,
    );
  return pass();
}

/** The customer's own record with our includes right after the version. */
const merged = (text: string, missing: readonly string[]): string =>
  visible(['v=spf1', ...missing.map((host) => `include:${host}`), text.slice('v=spf1'.length).trim()].join(' ').trim());

/** One record with the terms of all, ours first, each once; the first record that says how to end decides that. */
function mergedAll(records: readonly string[]): string {
  // Sorted: resolvers give records in any order, and equal answers give equal words.
  const terms = [...records]
    .sort()
    .flatMap((text) => text.split(' ').slice(1))
    .filter((term) => term !== '');
  const ends = (term: string) => /^([-+~?]?all$|redirect=)/i.test(term);
  const ours = spfIncludes.map((host) => `include:${host}`);
  return visible(
    ['v=spf1', ...new Set([...ours, ...terms.filter((term) => !ends(term))]), terms.find(ends) ?? '~all'].join(' '),
  );
}

// DMARC

function judgeDmarc({ name: domain }: Expected, answers: readonly Answer<TxtRr>[]): Finding {
  const name = `_dmarc.${domain}`;
  return finding<TxtRr>(
    {
      check: 'dmarc',
      type: 'TXT',
      name,
      expected: dmarcValue,
      present: visible,
      missing: () =>
        fail(
          'dmarc_missing',
          `There is no DMARC record. The record name is ${name} and the type is TXT: add ${dmarcValue}. Some DNS providers append the zone by themselves, which makes it ${name}.${domain}. A policy that ${domain} inherits from ${parentOf(domain)} is not enough; if that is p=reject, use p=reject here too, so as not to weaken it.`,
        ),
      decide: (records, aliases) => {
        const dmarc = records.filter(isDmarc);
        if (dmarc.length > 1)
          return fail(
            'dmarc_multiple',
            `${name} has ${dmarc.length} DMARC records, and receivers then ignore them all (RFC 7489 section 6.6.3). Keep one.`,
          );
        if (dmarc.length === 0) {
          if (records.some((text) => /^["']/.test(text) && isDmarc(text.slice(1))))
            return fail(
              'txt_literal_quotes',
              `The value has quote characters in it. Your DNS provider adds its own: enter ${dmarcValue} without quotes.`,
            );
          if (records.some((text) => isDmarc(text.trim())))
            return fail(
              'txt_whitespace',
              `The value has white space before v=DMARC1, so it is not a DMARC record. Enter it again without it.`,
            );
          if (records.some((text) => isDmarc(text.replace(/dmarc1/i, 'DMARC1'))))
            return fail(
              'dmarc_version_case',
              `The version of a DMARC record is case-sensitive, so receivers ignore this one. Write it as v=DMARC1.`,
            );
          if (records.some(lacksSemicolon))
            return fail(
              'dmarc_missing_semicolon',
              `The tags of a DMARC record are separated by semicolons: ${dmarcValue}`,
            );
          return fail('dmarc_missing', `${name} has no DMARC record. Add the TXT record ${dmarcValue}.`);
        }
        return judgeDmarcRecord(dmarc[0]!, aliases);
      },
    },
    answers,
  );
}

function judgeDmarcRecord(text: string, aliases: readonly string[]): Said {
  const { tags, repeated } = parseDmarc(text);
  if (repeated !== undefined)
    return fail(
      'dmarc_duplicate_tag',
      `The DMARC record has the tag ${repeated}= more than once, so receivers ignore all of it. Keep one, with ${dmarcValue}.`,
    );
  const policy = tags.get('p')?.toLowerCase();
  if (policy === undefined)
    return fail('dmarc_policy_missing', `The DMARC record has no policy. Add p=quarantine: ${dmarcValue}`);
  if (policy === 'none')
    return fail(
      'dmarc_policy_too_weak',
      'The DMARC policy is p=none, which asks receivers to do nothing. p=quarantine is the Sendmux minimum; p=reject is fine too.',
    );
  if (policy !== 'quarantine' && policy !== 'reject')
    return fail('dmarc_policy_unknown', `p=${visible(policy)} is no DMARC policy. Set p=quarantine or p=reject.`);
  if (tags.get('t')?.toLowerCase() === 'y')
    return pass(
      'dmarc_testing_mode',
      'The record is in place. With t=y receivers act on the next weaker policy (RFC 9989): remove it when your test is over.',
    );
  const pct = tags.get('pct');
  if (pct !== undefined && pct !== '100')
    return pass(
      'dmarc_pct_partial',
      `The record is in place. With pct=${visible(pct)} the policy holds for a part of the mail only.`,
    );
  if ([...tags.keys()][1] !== 'p')
    return pass(
      'dmarc_policy_not_second',
      'The record is in place. Some older receivers want p= right after the version.',
    );
  if (tags.get('sp')?.toLowerCase() === 'none')
    return pass(
      'dmarc_subdomains_free',
      'The record is in place. sp=none leaves the names below this one without a policy.',
    );
  if (aliases.length > 0) return pass('dmarc_via_cname', `The record is in place, published by ${aliases.at(-1)}.`);
  return pass();
}

// DKIM

function judgeDkim(domain: Expected, answer: DkimAnswer): Finding {
  const { name } = domain;
  const expected = dnsRecords(domain)
    .dkim.map((record) => `${record.name} CNAME ${record.value}`)
    .join('; ');
  const place = `Confirm that all three CNAME records below _domainkey.${name} are in place, each with its own target, and set to “DNS only” where your provider can proxy records.`;
  const said: Record<DkimAnswer, Said> = {
    success: pass('ok', 'Amazon SES has seen the DKIM records.'),
    pending: fail(
      'dkim_pending',
      `Amazon SES has not seen the DKIM records yet. ${place} SES looks by itself for up to 72 hours.`,
    ),
    failed: fail(
      'dkim_failed',
      `Amazon SES could not verify the DKIM records. ${place} If this persists for more than 72 hours with the records in place, contact support at contact@sendmux.ai.`,
    ),
    temporary_failure: undecided(
      'dkim_temporary_failure',
      `Amazon SES could not read the DKIM records just now and retries by itself; this usually resolves within an hour once the records are correct. ${place}`,
    ),
    not_started: fail(
      'dkim_not_started',
      'Amazon SES has not begun to look for the DKIM records. Try again in a few minutes.',
    ),
    unavailable: undecided(
      'ses_unavailable',
      'Amazon SES did not tell the DKIM status just now; nothing has changed. Try again in a minute.',
    ),
    identity_missing: undecided(
      'ses_identity_missing',
      'Amazon SES has no identity for this domain, which is ours to mend. Contact support at contact@sendmux.ai.',
    ),
  };
  return { check: 'dkim', type: 'CNAME', name, expected, observed: [], ...said[answer] };
}
