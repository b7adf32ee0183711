import { answerOf, Answers, definiteIn, recordsIn, type TxtRr } from '../../answers';
import type { Check, Evidence, Expected, Refined } from '../../check';
import { namedValue } from '../../entry';
import { operation, type Operation, type Place } from '../../operation';
import { leadsThrough, publishedAt, type Published, type PublishedName } from '../../published';
import { possibleZones } from '../../zone';
import { appended, ask, autoAppended, ownTxt, parentsOf, withoutZone, wrongName } from '../misplaced';
import { dmarcName, judgeDmarc } from './judge';
import { looksLikeDmarc } from './meant';
import { inheritedPolicy, mergeDmarc } from './merge';
import { dmarcValue, type Policy } from './record';

/** The DMARC record: a policy of quarantine at least. */
export const dmarc = {
  name: 'dmarc',
  field: 'dmarc',
  title: 'DMARC',
  label: 'the DMARC record',
  authority: 'dns',
  faults: { dmarc_missing: 'missing' },
  severities: { dmarc_testing_mode: 'breaking', dmarc_pct_partial: 'warning' },
  records: ({ name }) => [{ name: dmarcName(name), type: 'TXT', values: [dmarcValue] }],
  entry: ({ name }: Expected) => namedValue(name, dmarcName(name), dmarcValue),
  questions: ({ name }) => ask('TXT', dmarcName(name)),
  judge: judgeDmarc,
  clues: ({ name }, { outcome, code, name: at }, { answers }) => [
    ...(code === 'dmarc_missing' ? ask('TXT', ...appended(at, name), ...meantTarget(at, answers)) : []),
    // What the domain inherits bounds what is advised, as in a plan.
    ...(outcome === 'fail' ? ask('TXT', ...possibleZones(name).slice(1).map(dmarcName)) : []),
  ],
  refine: (domain, { code, name }, evidence) =>
    code === 'dmarc_missing'
      ? (targetAppended(domain, name, evidence) ?? misplaced(domain, name, evidence))
      : undefined,
  hints: ({ name }) => [
    `The record name is ${dmarcName(name)} and the type is TXT.`,
    `${dmarcValue} is the Sendmux minimum. You can add tags (rua=, pct=, adkim=), but do not remove p=quarantine.`,
  ],
  reads: ({ name }) => [name, ...possibleZones(name).slice(1)].map((at) => ({ name: dmarcName(at), through: true })),
  planClues: ({ name }, published) => ask('TXT', ...[meantIn(published, dmarcName(name)) ?? []].flat()),
  plan,
} as const satisfies Check;

/** Gives the TXT records that resolvers give for a name, whether they stand there or a CNAME leads to them. */
export const seenAt = ({ txt, ledTxt }: PublishedName): readonly TxtRr[] => ledTxt ?? txt;

/** The policy that a name inherits from its parents, as far as they were read. */
export const inheritedDmarc = (domain: string, { names }: Pick<Published, 'names'>): Policy | undefined =>
  inheritedPolicy(
    possibleZones(domain)
      .slice(1)
      .flatMap((parent) => seenAt(publishedAt({ names }, dmarcName(parent)))),
  );

/** Whether TXT records pass at the domain's DMARC name. */
const passes = (domain: Expected, txt: readonly TxtRr[]): boolean =>
  judgeDmarc(domain, new Answers().set('TXT', dmarcName(domain.name), answerOf(txt))).outcome === 'pass';

/** Gives the host that a CNAME may have been meant to lead to, before a DNS provider appended the zone to it. */
const meantTarget = (name: string, answers: Answers): string[] => {
  const target = definiteIn(answers.at('TXT', name))?.aliases[0];
  return target === undefined ? [] : [withoutZone(target, name) ?? []].flat();
};

/** Gives the same host for a plan; undefined where the CNAME leads to what was meant as a DMARC record. */
function meantIn(published: Published, name: string): string | undefined {
  const own = publishedAt(published, name);
  return own.cname === null || seenAt(own).some(looksLikeDmarc) ? undefined : withoutZone(own.cname, name);
}

/** Explains a CNAME to a hosted record that leads nowhere, because the DNS provider has appended the zone to it. */
function targetAppended(domain: Expected, name: string, { answers, clues }: Evidence): Refined | undefined {
  const [meant] = meantTarget(name, answers);
  if (meant === undefined) return undefined;
  const target = definiteIn(answers.at('TXT', name))!.aliases[0]!;
  const hosted = recordsIn(clues.at('TXT', meant)) ?? [];
  const appended = 'your DNS provider has appended the zone to the target';
  const [why, advice] = passes(domain, hosted)
    ? [`${appended}, since ${meant} has one`, `Enter ${meant}. with the dot at its end.`]
    : [
        `if ${meant} was meant, ${appended}`,
        `${hosted.some(looksLikeDmarc) ? `The DMARC record of ${meant} does not pass either` : `No DMARC record of ${meant} is known`}: remove the CNAME, and place the record at ${name} itself.`,
      ];
  return {
    code: 'dmarc_missing',
    message: `${name} is a CNAME to ${target}, where there is no DMARC record: ${why}. ${advice}`,
  };
}

function misplaced(domain: Expected, name: string, evidence: Evidence): Refined | undefined {
  const { clues } = evidence;
  const atDomain = ownTxt(domain, evidence).find((rr) => passes(domain, [rr]));
  return (
    autoAppended(domain, { name, type: 'TXT' }, clues, (rrs) => rrs.find((rr) => passes(domain, [rr]))) ??
    (atDomain === undefined ? undefined : wrongName(domain, name, atDomain)) ??
    inheritedOnly(domain, name, clues)
  );
}

function inheritedOnly({ name: domain }: Expected, name: string, clues: Answers): Refined | undefined {
  for (const parent of parentsOf(domain)) {
    const inherited = inheritedPolicy(recordsIn(clues.at('TXT', dmarcName(parent))) ?? []);
    if (inherited === undefined) continue;
    const advice =
      inherited === 'reject'
        ? 'v=DMARC1; p=reject, which is no weaker than what is inherited.'
        : `${dmarcValue}, or p=reject.`;
    return {
      code: 'dmarc_inherited_only',
      message: `There is no DMARC record at ${name}. ${domain} inherits p=${inherited} from ${parent}, but the record is needed here: add ${advice}`,
    };
  }
  return undefined;
}

function plan(domain: Expected, published: Published): Operation[] {
  const name = dmarcName(domain.name);
  const own = publishedAt(published, name);
  const { cname, txt, ledTxt } = own;
  const place: Place = { name, type: 'TXT' };
  const present = [...new Set(seenAt(own).filter(looksLikeDmarc))].sort();
  if (passes(domain, seenAt(own)) && !leadsThrough(published, name, domain.name)) {
    if (ledTxt !== null && cname !== null)
      return [
        operation('keep', { name, type: 'CNAME' }, [cname], 'The DMARC record that this leads to is strong enough.'),
      ];
    return [operation('keep', place, present, 'The DMARC record is strong enough.')];
  }
  const inherited = inheritedDmarc(domain.name, published);
  const merged = mergeDmarc(present, inherited);
  const beside = [...new Set(txt.filter(looksLikeDmarc))].sort();
  if (cname !== null) {
    const meant = meantIn(published, name);
    const isHosted = meant !== undefined && passes(domain, recordsIn(published.followed.at('TXT', meant)) ?? []);
    const instead = isHosted
      ? [
          `Where ${meant} was meant, the DNS provider has appended the zone to the target: enter ${meant}. with the dot at its end instead, to keep the record that is hosted there.`,
        ]
      : [];
    return [
      operation(
        'delete',
        { name, type: 'CNAME' },
        [cname],
        ['The DMARC record that this leads to is too weak, or none: it has to stand here itself.', ...instead].join(
          ' ',
        ),
      ),
      beside.length > 0
        ? operation('replace', place, [mergeDmarc([...present, ...beside], inherited)], 'One DMARC record.', beside)
        : operation('create', place, [merged], 'DMARC, with the tags of the record that the CNAME led to.'),
    ];
  }
  if (present.length > 0)
    return [
      operation(
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
  return [operation('create', place, [merged], reason)];
}
