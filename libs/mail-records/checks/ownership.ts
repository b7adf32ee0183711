import { answerOf, Answers, recordsIn, type TxtRr } from '../answers';
import type { Check, Evidence, Expected, Refined } from '../check';
import { namedValue } from '../entry';
import type { Finding } from '../findings';
import { operation, type Operation, type Place } from '../operation';
import { publishedAt, type Published } from '../published';
import { escaped } from '../record-set';
import { trace } from '../synthesis';
import { possibleZones } from '../zone';
import { fail, finding, pass, unseen, type Conclusion } from './finding';
import { appended, ask, autoAppended, onParent, ownTxt, parentsOf, wrongName } from './misplaced';
import { backslashFault, unescaped } from './slips';

const tokenPrefix = 'sendmux-verify=';
const nameOf = (domain: string): string => `_sendmux.${domain}`;
const valueOf = ({ team }: Pick<Expected, 'team'>): string => tokenPrefix + team;

/** The TXT record that proves that the domain is the team's. The API calls this check `verification_txt`. */
export const ownership = {
  name: 'verification_txt',
  field: 'verification',
  title: 'ownership',
  label: 'the verification TXT record',
  authority: 'dns',
  faults: { txt_missing: 'missing', txt_missing_nodata: 'missing' },
  records: (domain) => [{ name: nameOf(domain.name), type: 'TXT', values: [valueOf(domain)] }],
  entry: (domain: Expected) => namedValue(domain.name, nameOf(domain.name), valueOf(domain)),
  questions: ({ name }) => ask('TXT', nameOf(name)),
  judge,
  clues: ({ name }, { outcome, code, name: at }, { answers, clues }) => {
    if (outcome === 'pass') return [trace({ type: 'TXT', name: at }, clues.with(answers)).open ?? []].flat();
    return mayBeElsewhere.has(code) ? ask('TXT', ...appended(at, name), ...parentsOf(name).map(nameOf)) : [];
  },
  refine: (domain, { outcome, code, name }, evidence) =>
    outcome === 'fail' && mayBeElsewhere.has(code) ? misplaced(domain, name, evidence) : undefined,
  warnings: (_domain, { outcome, name }, { answers, clues }) => {
    const { source } = trace({ type: 'TXT', name }, clues.with(answers));
    return outcome === 'pass' && source?.kind === 'wildcard'
      ? [
          {
            code: 'wildcard_txt',
            severity: 'warning',
            message: `The wildcard ${source.owner} answers with the ownership record, and does so for other names as well. Place it at ${name} itself: a wildcard ends as soon as that name gets another record (RFC 4592 section 2.2.1).`,
          },
        ]
      : [];
  },
  hints: (domain) => {
    const [at, parent] = [nameOf(domain.name), possibleZones(domain.name)[1]];
    return [
      `Confirm the record name is exactly ${at}: some DNS providers append the zone by themselves, producing ${at}.${domain.name}${parent ? ` or ${at}.${parent}` : ''}.`,
      `Confirm the value is ${valueOf(domain)}, including the sendmux-verify= prefix and your team’s public ID.`,
      'Wait 2–5 minutes and retry: TXT records typically propagate fast, but some resolvers lag.',
    ];
  },
  reads: ({ name }) => [{ name: nameOf(name) }],
  plan,
} as const satisfies Check;

/** What a look has found of the ownership record: it is there, it is not, or nobody can tell. */
export type OwnershipSeen = 'present' | 'absent' | 'unknown';

/** Reads the findings of a look. A zone that resolvers do not see does not say what is in it. */
export function ownershipSeen(findings: readonly Finding[]): OwnershipSeen {
  const found = findings.find(({ check }) => check === ownership.name);
  if (!found || found.outcome === 'indeterminate' || unseen.has(found.code)) return 'unknown';
  return found.outcome === 'pass' ? 'present' : 'absent';
}

/** The codes for which the record may be at another name. */
const mayBeElsewhere: ReadonlySet<string> = new Set([
  'txt_missing',
  'txt_missing_nodata',
  'txt_wrong_value',
  'txt_other_team',
]);

function judge({ name: domain, team }: Expected, answers: Answers): Finding {
  const [name, expected] = [nameOf(domain), valueOf({ team })];
  return finding<TxtRr>(
    {
      check: ownership.name,
      domain,
      type: 'TXT',
      name,
      expected,
      present: escaped,
      missing: (kind) =>
        kind === 'nxdomain'
          ? fail('txt_missing', `There is no ownership record at ${name}. Add the TXT record ${expected}.`)
          : fail(
              'txt_missing_nodata',
              `${name} exists, but has no TXT record. Check that the type is TXT and the value ${expected}.`,
            ),
      decide: (records, aliases) => {
        if (aliases.length > 0)
          return fail(
            'verification_via_cname',
            `${name} is a CNAME to ${aliases[0]}. Place the TXT record at ${name} itself: what somebody else publishes does not prove that ${domain} is yours.`,
          );
        return records.includes(expected) ? pass() : wrongValue(name, team, records);
      },
    },
    answers.at('TXT', name),
  );
}

/**
 * Names the slip that keeps the TXT records at the name from being the expected one, as far as it can be recognised.
 */
function wrongValue(name: string, team: string, records: readonly TxtRr[]): Conclusion {
  const expected = valueOf({ team });
  const like = (test: (text: string) => boolean) => records.some(test);
  // What was typed in a zone file, where a quote ends the value and an escape is one character.
  const isEscaped = (text: string) =>
    text.includes('\\') && (unescaped(text).trim() === expected || text.replace(/\\/g, '').trim() === expected);
  if (like(isEscaped)) return fail('txt_literal_quotes', backslashFault(expected));
  if (like((text) => /["'\\]/.test(text) && text.replace(/["'\\]/g, '').trim() === expected))
    return fail(
      'txt_literal_quotes',
      `The value has quote characters in it. Your DNS provider adds its own: enter ${expected} without quotes.`,
    );
  if (like((text) => text.replace(/\s/g, '') === expected))
    return fail('txt_whitespace', `The value has white space in or around it. It must be exactly ${expected}.`);
  if (like((text) => /[^\x20-\x7e]/.test(text) && text.replace(/[^\x21-\x7e]/g, '') === expected))
    return fail(
      'invisible_characters',
      `The value has characters in it that cannot be seen (shown as \\ and a number). Type ${expected} by hand.`,
    );
  if (like((text) => text.trim().toLowerCase() === expected.toLowerCase()))
    return fail('txt_case', `The value is case-sensitive. It must be exactly ${expected}.`);
  if (like((text) => text === team))
    return fail(
      'txt_prefix_missing',
      `The value lacks its prefix. Confirm that it is ${expected}, including ${tokenPrefix}`,
    );
  if (like((text) => isToken.test(text)))
    return fail(
      'txt_other_team',
      `This token belongs to another Sendmux team. Confirm that the value is ${expected}, with your team’s public ID.`,
    );
  return fail('txt_wrong_value', `There is a TXT record at ${name}, but none with the value ${expected}.`);
}

/** The form of the tokens of teams; any other value is a typing error and not another team's token. */
const isToken = new RegExp(`^${tokenPrefix}team_[a-z0-9]+$`);

function misplaced(domain: Expected, name: string, evidence: Evidence): Refined | undefined {
  const expected = valueOf(domain);
  const { clues } = evidence;
  const isRight = (at: string) =>
    !trace({ type: 'TXT', name: at }, clues).source && (recordsIn(clues.at('TXT', at))?.includes(expected) ?? false);
  return (
    autoAppended(domain, { name, type: 'TXT' }, clues, (rrs) => rrs.find((rr) => rr === expected)) ??
    (ownTxt(domain, evidence).includes(expected) ? wrongName(domain, name, expected) : undefined) ??
    onParent(domain, nameOf, isRight, `the TXT record ${expected}`)
  );
}

const passes = (domain: Expected, txt: readonly TxtRr[]): boolean =>
  judge(domain, new Answers().set('TXT', nameOf(domain.name), answerOf(txt))).outcome === 'pass';

function plan(domain: Expected, published: Published): Operation[] {
  const [name, value] = [nameOf(domain.name), valueOf(domain)];
  const place: Place = { name, type: 'TXT' };
  const { cname, txt, ledTxt } = publishedAt(published, name);
  const inPlace = passes(domain, txt);
  if (ledTxt === null && inPlace) return [operation('keep', place, [value], 'The ownership record is in place.')];
  const bare = (text: string) =>
    unescaped(text)
      .toLowerCase()
      .replace(/^.*sendmux-verify=/s, '')
      .replace(/[^a-z0-9_]/g, '');
  // Other teams may prove their ownership here as well: only a mistyped form of our value is replaced.
  const mistaken = [...new Set(txt.filter((text) => bare(text) === bare(value)))].sort();
  const gone =
    cname === null
      ? []
      : [
          operation(
            'delete',
            { name, type: 'CNAME' },
            [cname],
            'What somebody else publishes does not prove ownership: the TXT record has to stand here itself.',
          ),
        ];
  return [
    ...gone,
    inPlace
      ? operation('keep', place, [value], 'The ownership record is in place, and is seen once the CNAME is gone.')
      : mistaken.length > 0
        ? operation('replace', place, [value], 'The value has to be exact.', mistaken)
        : operation('create', place, [value], 'Proves that the domain is your team’s.'),
  ];
}
