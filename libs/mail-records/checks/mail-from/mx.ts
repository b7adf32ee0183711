import type { Answers, MxRr } from '../../answers';
import type { Check, Expected } from '../../check';
import { hostOf } from '../../entry';
import type { Finding } from '../../findings';
import { operation, type Operation, type Place } from '../../operation';
import { publishedAt, type Published } from '../../published';
import { fail, finding, pass, type Conclusion } from '../finding';
import { appended, ask, autoAppended } from '../misplaced';
import { cnameAtMailFrom, mailFromCnameGone, mailFromName, notAligned } from './name';

const priority = 10;
/** The host of SES that takes bounces, in each of its Regions ("Using a custom MAIL FROM domain"). */
const targetIn = (region: string): string => `feedback-smtp.${region}.amazonses.com`;
const valueOf = ({ sesRegion }: Expected): string => `${priority} ${targetIn(sesRegion)}`;
const shown = ({ preference, exchange }: MxRr): string => `${preference} ${exchange || '.'}`;
const unique = (records: readonly MxRr[]): string[] => [...new Set(records.map(shown))].sort();

/** The MX record of the MAIL FROM domain. SES accepts that domain only where this is its one MX record. */
export const mailFromMx = {
  name: 'mail_from_mx',
  field: 'mail_from.mx',
  title: 'MAIL FROM MX',
  label: 'the MX record of the MAIL FROM domain',
  authority: 'dns',
  requirement: 'mail_from',
  faults: { mail_from_mx_missing: 'missing' },
  records: (domain) => [{ name: mailFromName(domain.name), type: 'MX', values: [valueOf(domain)] }],
  entry: ({ name, sesRegion }: Expected) => ({
    name: mailFromName(name),
    priority,
    target: targetIn(sesRegion),
    host: hostOf(name, mailFromName(name)),
  }),
  questions: ({ name }) => ask('MX', mailFromName(name)),
  judge,
  clues: ({ name: domain }, { code, name }) =>
    code === 'mail_from_mx_missing' ? ask('MX', ...appended(name, domain)) : [],
  refine: (domain, { code, name }, { clues }) =>
    code === 'mail_from_mx_missing'
      ? autoAppended(domain, { name, type: 'MX' }, clues, (rrs) => unique(rrs).find((rr) => rr === valueOf(domain)))
      : undefined,
  hints: (domain) => [
    `Check that ${mailFromName(domain.name)} has exactly one MX record, ${valueOf(domain)}: Amazon SES takes no other beside it.`,
    `Check that the target is ${targetIn(domain.sesRegion)} (with or without a trailing dot): each Region of Amazon SES has its own.`,
    'MX records cannot be proxied: where your DNS provider can proxy records, set it to “DNS only”.',
  ],
  reads: ({ name }) => [{ name: mailFromName(name), mx: true }],
  plan,
} as const satisfies Check;

function judge(domain: Expected, answers: Answers): Finding {
  const name = mailFromName(domain.name);
  const expected = valueOf(domain);
  return finding<MxRr>(
    {
      check: mailFromMx.name,
      domain: domain.name,
      type: 'MX',
      name,
      expected,
      present: shown,
      missing: () =>
        fail('mail_from_mx_missing', `There is no MX record at ${name}. Set MX ${expected} on ${name}. ${notAligned}`),
      decide: (records, aliases) => {
        if (aliases.length > 0) return cnameAtMailFrom(name, aliases[0]!);
        const [only, ...others] = unique(records);
        if (others.length > 0)
          return fail(
            'mail_from_mx_several',
            `${name} has ${others.length + 1} MX records, and Amazon SES takes a MAIL FROM domain only with one. Leave MX ${expected} alone there. ${notAligned}`,
          );
        return only === expected ? pass() : wrong(domain, records[0]!);
      },
    },
    answers.at('MX', name),
  );
}

/** Whether a DNS provider has appended the zone to the host, which was typed without the dot at its end. */
const isTargetAppended = ({ name, sesRegion }: Expected, exchange: string): boolean =>
  appended(targetIn(sesRegion), mailFromName(name)).includes(exchange);
const zoneAppended = ({ sesRegion }: Expected): string =>
  `The DNS provider has appended the zone to the target: enter ${targetIn(sesRegion)}. with the dot at its end.`;

/** Concludes where the only MX record is another one. */
function wrong(domain: Expected, { preference, exchange }: MxRr): Conclusion {
  const name = mailFromName(domain.name);
  const target = targetIn(domain.sesRegion);
  const mend = `Set MX ${valueOf(domain)} on ${name}. ${notAligned}`;
  if (exchange === target)
    return fail(
      'mail_from_mx_wrong_priority',
      `The MX to ${target} has priority ${preference}. Check the priority is ${priority}. ${notAligned}`,
    );
  if (isTargetAppended(domain, exchange))
    return fail(
      'mail_from_mx_wrong_target',
      `The MX of ${name} points to ${exchange}: your DNS provider has appended the zone to the target. Enter ${target}. with the dot at its end. ${notAligned}`,
    );
  const region = /^feedback-smtp\.([a-z0-9-]+)\.amazonses\.com$/.exec(exchange)?.[1];
  return fail(
    'mail_from_mx_wrong_target',
    region === undefined
      ? `The MX of ${name} points to ${exchange || '.'}. ${mend}`
      : `The MX of ${name} is that of the Region ${region}; your domain is in ${domain.sesRegion}. ${mend}`,
  );
}

function plan(domain: Expected, published: Published): Operation[] {
  const name = mailFromName(domain.name);
  const { cname, mx, ledMx } = publishedAt(published, name);
  const place: Place = { name, type: 'MX' };
  const expected = valueOf(domain);
  const present = unique(mx);
  const others = present.filter((each) => each !== expected);
  const inPlace = present.includes(expected);
  const isAppended = mx.some(({ exchange }) => isTargetAppended(domain, exchange));
  const alone = `Amazon SES takes a MAIL FROM domain only with one MX record. Bounces for ${name} no longer go elsewhere.`;
  return [
    ...(cname !== null && (ledMx !== null || !inPlace || others.length > 0) ? [mailFromCnameGone(name, cname)] : []),
    inPlace
      ? operation('keep', place, [expected], 'The MX record of the MAIL FROM domain is in place.')
      : others.length > 0
        ? operation('replace', place, [expected], isAppended ? `${zoneAppended(domain)} ${alone}` : alone, others)
        : operation('create', place, [expected], 'MAIL FROM: bounces go to Amazon SES, and SPF aligns for DMARC.'),
    ...(inPlace && others.length > 0 ? [operation('delete', place, others, alone)] : []),
  ];
}
