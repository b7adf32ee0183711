import { definiteIn, recordsIn, type Answers, type Question } from '../answers';
import type { Check, DkimAnswer, Evidence, Expected, Refined, SesExplanation } from '../check';
import { namedValue } from '../entry';
import type { Finding } from '../findings';
import { operation, type Operation, type Place } from '../operation';
import type { Published } from '../published';
import type { RecordSet } from '../record-set';
import { fail, pass, undecided, type Conclusion } from './finding';
import { ask } from './misplaced';

/**
 * The CNAMEs of SES's Easy DKIM, one a token. SES is the authority: it watches them itself, and a look-up of ours would
 * only race with its own.
 */
export const dkim = {
  name: 'dkim',
  field: 'dkim',
  title: 'DKIM',
  label: 'the DKIM records',
  authority: 'ses',
  faults: { dkim_pending: 'not seen by Amazon SES yet' },
  records,
  entry: (domain: Expected) =>
    records(domain).map(({ name, values: [value] }) => namedValue(domain.name, name, value!)),
  questions: () => [],
  judge: (domain, _answers, dkim) => judge(domain, dkim),
  // What stands there tells which records are left to place, and nothing else: whether they are right is SES's word.
  clues: (domain, finding, { clues }) =>
    finding.outcome === 'fail' && !isOurs(finding) ? standing(domain, clues) : [],
  refine: (domain, finding, evidence) => refine(domain, finding, evidence),
  hints: (domain) => [
    `Confirm all three CNAMEs are in place, each with its own target: ${recordsOf(domain)
      .map(({ name, values }) => `${name} to ${values[0]}`)
      .join(', ')}.`,
    'DKIM records must be set to “DNS only” (not proxied), same as MX.',
    'Amazon SES retries automatically: temporary_failure usually resolves within an hour once the records are correct.',
    'If failed persists for more than 72 hours with the records in place, contact support at contact@sendmux.ai.',
  ],
  isOurs: (finding) => isOurs(finding),
  reads: ({ name, dkimTokens, nextDkim }) =>
    [...dkimTokens, ...(nextDkim?.dkimTokens ?? [])].map((token) => ({ name: nameOf(token, name), mx: true })),
  plan: (domain, published) => records(domain).flatMap((record) => plan(record, published)),
} as const satisfies Check;

const isOurs = ({ code }: Pick<Finding, 'code'>): boolean => code === 'dkim_not_started';

/** Asks for the CNAMEs at the names of the tokens, and for what else stands at those names that exist. */
const standing = ({ name, dkimTokens }: Expected, clues: Answers): Question[] =>
  dkimTokens
    .map((token) => nameOf(token, name))
    .flatMap((at) => {
      const kind = definiteIn(clues.at('CNAME', at))?.kind;
      const exists = kind === 'records' || kind === 'nodata';
      return [...ask('CNAME', at), ...(exists ? [...ask('TXT', at), ...ask('MX', at)] : [])];
    });

const nameOf = (token: string, domain: string): string => `${token}._domainkey.${domain}`;

/** Gives the records of the identity that signs, and of the one that is to: SES judges those of the first alone. */
function records({ name, nextDkim, ...current }: Omit<Expected, 'team'>): RecordSet[] {
  return [current, ...(nextDkim ? [nextDkim] : [])].flatMap((keys) => recordsOf({ name, ...keys }));
}

function recordsOf({ name, dkimTokens, dkimZone }: Pick<Expected, 'name' | 'dkimTokens' | 'dkimZone'>): RecordSet[] {
  return dkimTokens.map((token) => ({ name: nameOf(token, name), type: 'CNAME', values: [`${token}.${dkimZone}`] }));
}

const said: Readonly<Record<DkimAnswer, Conclusion>> = {
  success: pass('ok', 'Amazon SES has seen the DKIM records.'),
  pending: fail('dkim_pending', 'Amazon SES has not seen the DKIM records yet. It looks by itself for up to 72 hours.'),
  failed: fail('dkim_failed', 'Amazon SES could not verify the DKIM records within 72 hours.'),
  temporary_failure: undecided(
    'dkim_temporary_failure',
    'Amazon SES could not read the DKIM records just now, and retries by itself.',
  ),
  not_started: fail(
    'dkim_not_started',
    'Amazon SES has not begun to look for the DKIM records. We have asked it to: try again in a few minutes.',
  ),
  unavailable: undecided(
    'ses_unavailable',
    'Amazon SES did not tell the DKIM status just now; nothing has changed. Try again in a minute.',
  ),
  identity_missing: undecided(
    'ses_identity_missing',
    'Amazon SES has lost this domain, which is ours to mend: it is being added there again. Try again in a few minutes.',
  ),
};

function judge(domain: Expected, answer: DkimAnswer): Finding {
  const expected = recordsOf(domain)
    .map(({ name, values }) => `${name} CNAME ${values[0]}`)
    .join('; ');
  const { outcome, code, message } = said[answer];
  return { check: 'dkim', type: 'CNAME', name: domain.name, expected, observed: [], outcome, code, message };
}

function refine(domain: Expected, finding: Finding, { ses, clues }: Evidence): Refined | undefined {
  if (finding.code !== 'dkim_pending' && finding.code !== 'dkim_failed') return undefined;
  const refined = ses ? refinedBySes(finding, ses) : undefined;
  const appended = recordsOf(domain).flatMap(({ name, values: [value] }) => {
    const found = recordsIn(clues.at('CNAME', name))?.[0];
    return found !== undefined && isAppended(name, value!, found) ? [`${name} to ${found}`] : [];
  });
  if (appended.length === 0) return refined;
  const { code, message } = refined ?? finding;
  return {
    code,
    message: `${message} Your DNS provider has appended the zone to the target of ${appended.join(' and ')}: enter each target with the dot at its end.`,
  };
}

function refinedBySes({ code, message }: Finding, ses: SesExplanation): Refined | undefined {
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

function plan({ name, values: [value] }: RecordSet, { names }: Published): Operation[] {
  const place: Place = { name, type: 'CNAME' };
  const own = names.get(name);
  if (!own) return [operation('create', place, [value!], 'DKIM: in place of whatever stands there.')];
  const alone = 'A name with a CNAME can have no other record.';
  const mx = own.mx.map(({ preference, exchange }) => `${preference} ${exchange || '.'}`);
  return [
    ...(own.txt.length > 0 ? [operation('delete', { name, type: 'TXT' }, [...own.txt].sort(), alone)] : []),
    ...(mx.length > 0 ? [operation('delete', { name, type: 'MX' }, mx.sort(), alone)] : []),
    own.cname === value
      ? operation('keep', place, [value], 'The DKIM record is in place.')
      : own.cname !== null
        ? operation('replace', place, [value!], replacement(name, value!, own.cname), [own.cname])
        : operation('create', place, [value!], 'DKIM: Amazon SES signs with a key that it publishes there.'),
  ];
}

function replacement(name: string, value: string, found: string): string {
  return isAppended(name, value, found)
    ? `The DNS provider has appended the zone to the target: enter ${value}. with the dot at its end.`
    : 'Amazon SES looks for exactly this target.';
}

/** Whether a DNS provider has appended the zone, which, wherever it begins, ends as the name does. */
const isAppended = (name: string, value: string, found: string): boolean =>
  found.startsWith(`${value}.`) && name.endsWith(found.slice(value.length));

/** Tells whether two lists of Easy DKIM tokens ask for the same records: SES gives them in any order. */
export const haveSameTokens = (some: readonly string[], others: readonly string[]): boolean =>
  [...some].sort().join() === [...others].sort().join();
