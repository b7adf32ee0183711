import { answerOf, Answers, type Question, type TxtRr } from '../../answers';
import type { Check, Expected } from '../../check';
import { namedValue } from '../../entry';
import type { Finding } from '../../findings';
import { quoted } from '../../limits';
import { operation, type Operation, type Place } from '../../operation';
import { publishedAt, type Published } from '../../published';
import { escaped } from '../../record-set';
import { fail, finding, pass, propagating, servfailBehind, unanswered, type Conclusion } from '../finding';
import { appended, ask, autoAppended } from '../misplaced';
import { adviseSpf, presentSpf } from '../spf/advice';
import { lostQuestions } from '../spf/lost';
import { isSpf, parseSpf } from '../spf/record';
import { agreedSpf, walkSpf, type SpfWalk } from '../spf/walk';
import { cnameAtMailFrom, mailFromCnameGone, mailFromName, notAligned } from './name';

const sender = 'amazonses.com';
const value = `v=spf1 include:${sender} ~all`;

/** The SPF record of the MAIL FROM domain. Only SES sends with that name, so it need not name Sendmux's relays. */
export const mailFromSpf = {
  name: 'mail_from_spf',
  field: 'mail_from.spf',
  title: 'MAIL FROM SPF',
  label: 'the SPF record of the MAIL FROM domain',
  authority: 'dns',
  requirement: 'mail_from',
  faults: { mail_from_spf_missing: 'missing' },
  records: ({ name }) => [{ name: mailFromName(name), type: 'TXT', values: [value] }],
  entry: ({ name }: Expected) => namedValue(name, mailFromName(name), value),
  questions: ({ name }) => ask('TXT', mailFromName(name)),
  followUp,
  judge,
  clues: ({ name: domain }, { code, name }) =>
    code === 'mail_from_spf_missing' ? ask('TXT', ...appended(name, domain)) : [],
  refine: (domain, { code, name }, { clues }) =>
    code === 'mail_from_spf_missing'
      ? autoAppended(domain, { name, type: 'TXT' }, clues, (rrs) => rrs.find((rr) => passes(domain, [rr])))
      : undefined,
  hints: ({ name }) => [
    `The record name is ${mailFromName(name)} and the type is TXT: the SPF record of ${name} itself is another one.`,
    `Only one SPF record per hostname is allowed: ${value}, or one that has include:${sender} in it.`,
  ],
  reads: ({ name }) => [{ name: mailFromName(name), mx: true }],
  planClues: ({ name }, published) => lostQuestions(presentSpf(mailFromName(name), published), published.followed),
  plan,
} as const satisfies Check;

const walk = (text: string, answers: Answers): SpfWalk => walkSpf(text, (name) => answers.at('TXT', name), [sender]);

/** Gives the next name whose TXT records decide whether the record leads to SES, one at a time as a receiver asks. */
function followUp({ name }: Expected, answers: Answers): Question | undefined {
  const answer = agreedSpf(answers.at('TXT', mailFromName(name)) ?? []);
  if (answer.kind !== 'records' || answer.aliases.length > 0) return undefined;
  const [text, ...others] = answer.records.filter(isSpf);
  if (text === undefined || others.length > 0) return undefined;
  const { open, reached, broken } = walk(text, answers);
  const [next] = reached.has(sender) || broken !== undefined ? [] : open;
  return next === undefined ? undefined : { type: 'TXT', name: next };
}

function judge({ name: domain }: Expected, answers: Answers): Finding {
  const name = mailFromName(domain);
  const missing = fail('mail_from_spf_missing', `There is no SPF record at ${name}. Add ${value} there. ${notAligned}`);
  return finding<TxtRr>(
    {
      check: mailFromSpf.name,
      domain,
      type: 'TXT',
      name,
      expected: value,
      present: escaped,
      missing: () => missing,
      decide: (records, aliases) => {
        if (aliases.length > 0) return cnameAtMailFrom(name, aliases[0]!);
        const [only, ...others] = records.filter(isSpf);
        if (only === undefined) return missing;
        if (others.length > 0)
          return fail(
            'mail_from_spf_multiple',
            `${name} has ${others.length + 1} SPF records, and only one per hostname is allowed (RFC 7208 section 4.5). Leave one, such as ${value}.`,
          );
        return judgeRecord(name, only, answers);
      },
    },
    answers.at('TXT', name),
  );
}

function judgeRecord(name: string, text: string, answers: Answers): Conclusion {
  const record = parseSpf(text);
  if ('syntaxError' in record)
    return fail(
      'mail_from_spf_syntax',
      `The SPF record at ${name} cannot be read at “${quoted(record.syntaxError)}”. Set it to ${value}.`,
    );
  const { reached, targets } = walk(text, answers);
  if (reached.has(sender)) return pass();
  for (const [target, found] of targets) {
    if (found.kind === 'unreachable') return unanswered('TXT', target);
    if (found.kind === 'disagreement') return propagating('TXT', target);
    if (found.kind === 'servfail') return servfailBehind(target, found.loop);
  }
  return fail(
    'mail_from_spf_include_missing',
    `The SPF record at ${name} does not authorise Amazon SES. Put include:${sender} right after v=spf1. ${notAligned}`,
  );
}

/** Whether TXT records pass at the MAIL FROM domain. */
const passes = (domain: Expected, txt: readonly TxtRr[], followed = new Answers()): boolean =>
  judge(domain, followed.with(new Answers().set('TXT', mailFromName(domain.name), answerOf(txt)))).outcome === 'pass';

function plan(domain: Expected, published: Published): Operation[] {
  const name = mailFromName(domain.name);
  const { cname, txt, ledTxt } = publishedAt(published, name);
  const place: Place = { name, type: 'TXT' };
  const present = presentSpf(name, published);
  const advise = () => {
    const { merged, caveats } = adviseSpf(present, name, published.followed, [sender]);
    const reason = ['One SPF record that names Amazon SES.', ...caveats].join(' ');
    return operation('replace', place, [merged], reason, present);
  };
  const inPlace = passes(domain, txt, published.followed);
  return [
    ...(cname !== null && (ledTxt !== null || !inPlace) ? [mailFromCnameGone(name, cname)] : []),
    inPlace
      ? operation('keep', place, present, 'The SPF record of the MAIL FROM domain authorises Amazon SES.')
      : present.length > 0
        ? advise()
        : operation('create', place, [value], 'MAIL FROM: authorises Amazon SES to send with that name.'),
  ];
}
