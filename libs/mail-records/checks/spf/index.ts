import { answerOf, Answers, recordsIn, type Question, type TxtRr } from '../../answers';
import type { Check, Evidence, Expected, Refined } from '../../check';
import { namedValue } from '../../entry';
import { operation, type Operation, type Place } from '../../operation';
import { publishedAt, type Published } from '../../published';
import { trace } from '../../synthesis';
import { registrableDomain } from '../../zone';
import { appended, ask, autoAppended, onParent, parentsOf } from '../misplaced';
import { judgeSpf, spfQuestion } from './judge';
import { cnameGone, removesCname } from '../mx';
import { adviseSpf, presentSpf } from './advice';
import { lostQuestions } from './lost';
import { isSpf, spfIncludes, spfValue } from './record';
import { walkSpf, type SpfWalk } from './walk';
import { spfWarnings } from './warnings';

/** The SPF record, which authorises SES and Sendmux's relays. */
export const spf = {
  name: 'spf',
  field: 'spf',
  title: 'SPF',
  label: 'the SPF record',
  authority: 'dns',
  faults: { spf_missing: 'missing' },
  severities: { spf_permissive_all: 'warning' },
  records: ({ name }) => [{ name, type: 'TXT', values: [spfValue] }],
  entry: ({ name }: Expected) => namedValue(name, name, spfValue),
  questions: ({ name }) => ask('TXT', name),
  followUp: (domain, answers) => {
    const name = spfQuestion(domain, answers);
    return name === undefined ? undefined : { type: 'TXT', name };
  },
  judge: judgeSpf,
  clues: (domain, { outcome, code }, evidence) => {
    if (outcome === 'pass') return targetClues(domain, evidence);
    const { name } = domain;
    return code === 'spf_missing' ? ask('TXT', ...appended(name, name), ...parentsOf(name)) : [];
  },
  refine: (domain, { code }, { clues }) => (code === 'spf_missing' ? misplaced(domain, clues) : undefined),
  warnings: (domain, { outcome }, evidence) => {
    const found = outcome === 'pass' ? walkOf(domain, evidence) : undefined;
    return found ? spfWarnings(found.text, found.walk, evidence.clues) : [];
  },
  hints: ({ name, mode }, finding) =>
    finding?.code === 'cname_at_name' && mode !== 'send_only'
      ? ['This is mended together with the MX.']
      : [
          'Only one SPF record per hostname is allowed: merge all include: mechanisms into one record.',
          `If ${name} already has v=spf1 include:_spf.google.com ~all, say, add the Sendmux includes to the same record: ${spfValue.replace('~all', 'include:_spf.google.com ~all')}.`,
          `Check for typos, such as in include:${spfIncludes.join(' and include:')}: SPF is whitespace-sensitive.`,
        ],
  // What the records of a domain that only sends would end is its mail as well.
  reads: ({ name }) => [{ name, mx: true }],
  planClues: ({ name }, published) => lostQuestions(presentSpf(name, published), published.followed),
  plan,
} as const satisfies Check;

/**
 * Walks the domain's one SPF record; undefined where there is none. Our own includes are ours to keep right: they
 * count, and are not followed.
 */
function walkOf(
  { name }: Expected,
  { answers, clues }: Evidence,
): { readonly text: string; readonly walk: SpfWalk } | undefined {
  const answer = answers.at('TXT', name)?.find(({ kind }) => kind === 'records');
  const records = answer?.kind === 'records' ? answer.records.filter(isSpf) : [];
  if (records.length !== 1) return undefined;
  const text = records[0]!;
  const walk = walkSpf(text, (target) => clues.at('TXT', target) ?? answers.at('TXT', target), spfIncludes);
  return { text, walk };
}

/**
 * Gives the next name where the record leads, as far as a receiver reads; at the end, the zones of the names that do
 * not exist.
 */
function targetClues(domain: Expected, evidence: Evidence): Question[] {
  const found = walkOf(domain, evidence);
  if (!found) return [];
  const { walk } = found;
  const [next] = walk.open;
  if (next !== undefined) return ask('TXT', next);
  const absent = [...walk.targets].filter(([, target]) => target.kind === 'none' && target.isNxdomain);
  return ask('TXT', ...absent.map(([name]) => registrableDomain(name)));
}

/** Whether TXT records pass at the domain's name. */
const passes = (domain: Expected, txt: readonly TxtRr[], followed = new Answers()): boolean =>
  judgeSpf(domain, followed.with(new Answers().set('TXT', domain.name, answerOf(txt)))).outcome === 'pass';

function misplaced(domain: Expected, clues: Answers): Refined | undefined {
  const record = (rrs: readonly TxtRr[]) => rrs.find((rr) => passes(domain, [rr]));
  return (
    autoAppended(domain, { name: domain.name, type: 'TXT' }, clues, record) ??
    onParent(
      domain,
      (zone) => zone,
      (zone) =>
        !trace({ type: 'TXT', name: zone }, clues).source && passes(domain, recordsIn(clues.at('TXT', zone)) ?? []),
      `the TXT record ${spfValue}`,
    )
  );
}

function plan(domain: Expected, published: Published): Operation[] {
  const { name, mode } = domain;
  const { cname, txt, ledTxt } = publishedAt(published, name);
  const place: Place = { name, type: 'TXT' };
  const present = presentSpf(name, published);
  const inPlace = passes(domain, txt, published.followed);
  const own = inPlace
    ? operation('keep', place, present, 'The SPF record authorises Sendmux.')
    : planRecord(place, present, published);
  // The plan of the MX record removes the CNAME, but where it can do without, or there is none.
  const isRemoved = mode !== 'send_only' && removesCname(name, published);
  const isInTheWay = cname !== null && (ledTxt !== null || !inPlace) && !isRemoved;
  return isInTheWay ? [cnameGone(name, cname), own] : [own];
}

function planRecord(place: Place, present: readonly string[], { followed }: Published): Operation {
  const { merged, caveats } = adviseSpf(present, place.name, followed);
  if (present.length === 0) return operation('create', place, [merged], 'SPF: authorises SES and Sendmux’s relays.');
  const reason =
    present.length > 1
      ? 'Only one SPF record is allowed at a name: this one has the terms of all, and both of our includes.'
      : 'The SPF record there, with both of our includes before its end.';
  return operation('replace', place, [merged], [reason, ...caveats].join(' '), present);
}
