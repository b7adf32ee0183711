import {
  allowedMs,
  functionsIn,
  itIsLinear,
  keptFor,
  longest,
  octetsOf,
  ofName,
  ofText,
  readersOf,
  slowIn,
  textOf,
  textsOf,
  type Hostile,
  type Reader,
} from '../../test/support/bounded-time';
import { sample } from '../../test/support/sample';
import {
  answerOf,
  Answers,
  definiteIn,
  loopIn,
  quorum,
  recordsIn,
  unique,
  type Answer,
  type MxRr,
  type Question,
  type TxtRr,
} from './answers';
import type { Expected } from './check';
import { dnsHost } from './dns-hosts';
import { checkNamed, inZoneOrder } from './checks';
import { haveSameTokens } from './checks/dkim';
import { dmarc, inheritedDmarc, seenAt } from './checks/dmarc';
import { dmarcName, judgeDmarc } from './checks/dmarc/judge';
import { isReadableMended, looksLikeDmarc, policyMeant, tagsMeant } from './checks/dmarc/meant';
import { inheritedPolicy, mergeDmarc } from './checks/dmarc/merge';
import { isDmarc, parseDmarc, policyIn, unknownPolicy } from './checks/dmarc/record';
import {
  cnameAtName,
  dnameAboveName,
  failedName,
  finding,
  pass,
  propagating,
  servfail,
  servfailBehind,
  unanswered,
  writtenLoop,
} from './checks/finding';
import { cnameAtMailFrom, mailFromCnameGone, mailFromName } from './checks/mail-from/name';
import { mailProvider } from './checks/mail-provider';
import {
  appended,
  ask,
  autoAppended,
  isAbsent,
  onParent,
  ownTxt,
  parentsOf,
  withoutZone,
  wrongName,
} from './checks/misplaced';
import { ownershipSeen } from './checks/ownership';
import { cnameGone, removesCname, shownMx } from './checks/mx';
import { backslashFault, unescaped } from './checks/slips';
import { adviseSpf, presentSpf } from './checks/spf/advice';
import { lostQuestions, lostTarget } from './checks/spf/lost';
import { judgeSpf, spfQuestion } from './checks/spf/judge';
import { behindAll, lacksEnd, leftOutOfSpf, looksLikeSpf, lostTerms, mergeSpf, spfTargets } from './checks/spf/merge';
import { isSpf, parseSpf, parseTerm, spfValue } from './checks/spf/record';
import { agreedSpf, isAll, isEverybody, isPass, readIn, walkSpf } from './checks/spf/walk';
import { spfWarnings } from './checks/spf/warnings';
import { cnameChain } from './cname-chain';
import { loopConclusion, traceLoop } from './cname-loop';
import { parseDomainName, parseHostname } from './domain-name';
import { hostOf, namedValue } from './entry';
import { clueQuestions, explain } from './explain';
import {
  allPass,
  deciding,
  failing,
  isBroken,
  isUnanswered,
  isUndecided,
  sameAssessment,
  type Assessment,
  type Finding,
} from './findings';
import { answersInPlace } from './in-place';
import { followUps, judge, questionsOf } from './judge';
import { cut, cutList, jsonOctets, quoted, shownOperations } from './limits';
import { inOrder } from './operation';
import { dnsPlan, namesToRead, remedy } from './plan';
import { preflight } from './preflight';
import {
  dnameAbove,
  leadsThrough,
  openTraces,
  publishedAt,
  publishedIn,
  wildcardAt,
  type Published,
  type PublishedName,
} from './published';
import { characterStrings, escaped, rdata } from './record-set';
import { recordsWithStatus, seenFinding } from './record-status';
import { byField, dnsRecords, recordSets } from './records';
import { mailTaken, obstacles, planWarnings, rehearsalQuestions } from './rehearsal';
import { ends, isBelow, isProbe, trace } from './synthesis';
import { trimmed, whiteSpace } from './trimmed';
import { possibleZones, registrableDomain, relativeHost } from './zone';
import { zoneFile } from './zone-file';

const domain: Expected = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const { name } = domain;

/** What a zone says whose owner means us harm, at each name that is asked for, and what is made of it. */
interface Zone {
  readonly txt: readonly string[];
  /** What both resolvers say of the TXT records of the name. */
  readonly own: readonly Answer<TxtRr>[];
  readonly answers: Answers;
  readonly clues: Answers;
  readonly published: Published;
  readonly assessment: Assessment;
}

/** MX records of a message of such a length: with pointers an RR takes 16 octets, whatever its exchange. */
const exchanges = (exchange: string, length: number): MxRr[] =>
  Array.from({ length: Math.floor(length / 16) }, (_, preference) => ({ preference, exchange }));

function zoneOf(
  txt: readonly string[],
  mx: readonly MxRr[],
  own: { readonly spf?: readonly string[]; readonly dmarc?: readonly string[]; readonly ownership?: readonly string[] },
): Zone {
  const both = <Rr>(records: readonly Rr[]) => answerOf(records).concat(answerOf([...records].reverse()));
  const answers = new Answers()
    .set('MX', name, both(mx))
    .set('TXT', name, both(own.spf ?? txt))
    .set('TXT', dmarcName(name), both(own.dmarc ?? txt))
    .set('TXT', `_sendmux.${name}`, both(own.ownership ?? txt));
  for (let open = followUps(domain, answers); open.length > 0; open = followUps(domain, answers))
    for (const { type, name } of open) answers.set(type, name, both(txt));
  const all: PublishedName = { exists: true, cname: null, txt, mx, ledTxt: null, ledMx: null };
  const names = namesToRead(domain).map(({ name }): [string, PublishedName] => [name, all]);
  let [assessment, clues]: [Assessment?, Answers?] = [];
  return {
    txt,
    own: answers.at('TXT', name)!,
    answers,
    published: { names: new Map(names), followed: answers },
    // Few readers take these, which take long to make.
    get assessment() {
      return (assessment ??= judge(domain, answers, 'pending'));
    },
    get clues() {
      return (clues ??= cluesOf(this.assessment, answers, txt, mx));
    },
  };
}

/** Answers all that explains an assessment. */
function cluesOf({ findings }: Assessment, answers: Answers, txt: readonly string[], mx: readonly MxRr[]): Answers {
  const clues = new Answers();
  for (const each of findings)
    for (let open: Question[]; (open = clueQuestions(domain, each, { answers, clues, ses: null })).length > 0;)
      // One resolver is asked for these.
      for (const { type, name } of open)
        if (type === 'MX') clues.set(type, name, answerOf(mx));
        else clues.set(type, name, answerOf(type === 'TXT' ? txt : [mx[0]!.exchange]));
  return clues;
}

function makeZones(text: Hostile, length: number): Zone[] {
  const [one, many] = [textOf(text, length), textsOf(text, length)];
  const ours = { preference: 10, exchange: 'mail.sendmux.ai' };
  return [
    zoneOf([one], [ours], {}),
    zoneOf(many, exchanges(textOf(text, 250), length), {
      spf: [`${spfValue.slice(0, -'~all'.length)}${one}`, ...many],
      dmarc: [`v=DMARC1; p=quarantine; ${one}`],
      ownership: [...many, 'sendmux-verify=team_abc123'],
    }),
    // What passes has clues of its own.
    zoneOf([one], [ours, { preference: 20, exchange: 'x.net' }], {
      spf: [spfValue.replace('~all', 'include:x.net include:y.net ~all')],
      dmarc: ['v=DMARC1; p=quarantine'],
      ownership: ['sendmux-verify=team_abc123'],
    }),
  ];
}

const zonesOf = keptFor(makeZones);

const inRecords = (records: readonly (string | MxRr)[]): number =>
  records.reduce((octets, rr) => octets + (typeof rr === 'string' ? octetsOf([rr]) : 16), 0);
const inAnswer = (answers: readonly Answer<string | MxRr>[] = []): number =>
  answers.reduce((octets, answer) => octets + (answer.kind === 'records' ? inRecords(answer.records) : 0), 0);
const inAnswers = (answers: Answers): number =>
  answers.questions().reduce((octets, { type, name }) => octets + inAnswer(answers.at(type, name)), 0);
/** The octets of each part of a zone. */
const octetsIn: { readonly [Part in keyof Zone]: (zone: Zone) => number } = {
  txt: ({ txt }) => inRecords(txt),
  own: ({ own }) => inAnswer(own),
  answers: ({ answers }) => inAnswers(answers),
  clues: ({ clues }) => inAnswers(clues),
  published: ({ published: { names, followed } }) =>
    [...names.values()].reduce((octets, { txt, mx }) => octets + inRecords([...txt, ...mx]), inAnswers(followed)),
  assessment: ({ assessment }) => JSON.stringify(assessment).length,
};

const zoneParts = Object.keys(octetsIn) as (keyof Zone)[];

/** Reads a zone. Only the parts that are taken of it count, and they are made before. */
const ofZone = (read: (zone: Zone) => unknown): Reader => {
  /** What the reader has taken of any zone; of the first one, which is short, all is made. */
  let everTaken: Set<keyof Zone> | undefined;
  return (text, length) => {
    const zones = zonesOf(text, length);
    for (const zone of zones) for (const part of everTaken ?? zoneParts) void zone[part];
    const taken = new Set<keyof Zone>();
    const take = (part: keyof Zone) => void (taken.add(part), (everTaken ??= new Set()).add(part));
    const noted = zones.map((zone) => new Proxy(zone, { get: (all, part: keyof Zone) => (take(part), all[part]) }));
    return {
      get octets() {
        return zones.flatMap((zone) => [...taken].map((part) => octetsIn[part](zone))).reduce((a, b) => a + b, 0);
      },
      run: () => noted.map(read),
      allowedMs,
    };
  };
};
const ofRecords = (read: (records: readonly string[]) => unknown): Reader => ofZone(({ txt }) => read(txt));

const terms = (text: string) => {
  const record = parseSpf(text);
  return 'terms' in record ? record.terms : [];
};
const nameOfText = { name, type: 'TXT' } as const;
const evidenceOf = ({ answers, clues }: Zone) => ({ answers, clues, ses: null });

/** A loop of as many names as are followed. */
const loopOf = (name: string): string[] => Array.from({ length: 16 }, (_, i) => i + name);
function loopAnswers(name: string): Answers {
  const answers = new Answers();
  for (const [i, at] of loopOf(name).entries()) {
    answers.set('TXT', at, [{ kind: 'servfail' }]);
    answers.set('CNAME', at, answerOf([loopOf(name)[(i + 1) % 16]!]));
  }
  return answers;
}
const failedAt = (name: string): Finding => ({
  ...servfail(name),
  check: 'spf',
  name,
  type: 'TXT',
  expected: '',
  observed: [],
});

/** Gives what a name comes to, or why it is refused. */
function orMessage<T>(read: () => T): T | string {
  try {
    return read();
  } catch (error) {
    return (error as Error).message;
  }
}

const readers: Record<string, Reader> = {
  agreedSpf: ofZone(({ own }) => agreedSpf(own)),
  adviseSpf: ofZone(({ txt, answers }) => adviseSpf(txt, name, answers)),
  behindAll: ofRecords(behindAll),
  cnameGone: ofName((name) => cnameGone(name, name)),
  cut: ofText((text) => cut(text)),
  cutList: ofRecords((records) => cutList(records)),
  definiteIn: ofZone(({ own }) => definiteIn(own)),
  dnameAbove: ofZone(({ published }) => dnameAbove(published, name)),
  dnameAboveName: ofName((name) => dnameAboveName(name, name, { owner: name, target: name })),
  ends: ofName((name) => ends(`*.${name}`, `a.${name}`, `b.${name}`)),
  hostOf: ofName((name) => hostOf(name, name)),
  isBelow: ofName((name) => isBelow(`a.${name}`, name)),
  isProbe: ofName((name) => isProbe({ type: 'TXT', name })),
  cnameChain: ofName((name) => cnameChain(`0${name}`, loopAnswers(name))),
  presentSpf: ofZone(({ published }) => presentSpf(name, published)),
  lostQuestions: ofZone(({ txt, answers }) => lostQuestions(txt, answers)),
  lostTarget: ofZone(({ answers }) => lostTarget(name, 'x.net', answers)),
  lostTerms: ofRecords((records) => lostTerms(records, () => true)),
  spfTargets: ofRecords(spfTargets),
  lacksEnd: ofRecords((records) => lacksEnd(records)),
  leadsThrough: ofZone(({ published }) => leadsThrough(published, name, `_dmarc.${name}`)),
  obstacles: ofZone(({ published }) => obstacles(domain, published, inZoneOrder(domain))),
  openTraces: ofZone(({ answers }) => openTraces(namesToRead(domain), answers)),
  parseTerm: ofText(parseTerm),
  planWarnings: ofZone(({ published }) => planWarnings(domain, published, dnsPlan(domain, published))),
  publishedIn: ofZone(({ answers }) => publishedIn(namesToRead(domain), answers)),
  rehearsalQuestions: ofZone(({ published }) => rehearsalQuestions(domain, published, dnsPlan(domain, published))),
  removesCname: ofZone(({ published }) => removesCname(name, published)),
  shownMx: ofZone(({ published }) => shownMx(publishedAt(published, name).mx)),
  seenAt: ofZone(({ published }) => seenAt(publishedAt(published, name))),
  trace: ofZone(({ answers }) => trace({ type: 'TXT', name }, answers)),
  wildcardAt: ofZone(({ published }) => wildcardAt(published, name)),
  answerOf: ofRecords(answerOf),
  answersInPlace: ofName((name) => answersInPlace({ ...domain, name })),
  appended: ofName((name) => appended(name, name)),
  ask: ofRecords((records) => ask('TXT', ...records)),
  backslashFault: ofText(backslashFault),
  byField: ofText((text) => byField(() => text)),
  characterStrings: ofText(characterStrings),
  checkNamed: ofText(checkNamed),
  cnameAtMailFrom: ofName((name) => cnameAtMailFrom(name, name)),
  cnameAtName: ofName((name) => cnameAtName(name, name)),
  dmarcName: ofName(dmarcName),
  dnsHost: ofRecords((names) => dnsHost(name, names)),
  dnsPlan: ofZone(({ published }) => dnsPlan(domain, published)),
  dnsRecords: ofName((name) => dnsRecords({ ...domain, name })),
  escaped: ofText(escaped),
  failedName: ofName((name) => failedName(failedAt(name))),
  finding: ofZone(({ own }) =>
    finding<TxtRr>(
      {
        check: 'x',
        domain: name,
        type: 'TXT',
        name,
        expected: 'x',
        present: escaped,
        missing: () => pass(),
        decide: (records) => pass('ok', records.join('')),
      },
      own,
    ),
  ),
  followUps: ofZone(({ answers }) => followUps(domain, answers)),
  haveSameTokens: ofRecords((records) => haveSameTokens(records, [...records].reverse())),
  inOrder: ofZone(({ published }) => inOrder(dmarc.plan(domain, published))),
  inZoneOrder: ofName((name) => inZoneOrder({ ...domain, name })),
  inheritedDmarc: ofZone(({ published }) => inheritedDmarc(name, published)),
  inheritedPolicy: ofRecords(inheritedPolicy),
  isAll: ofText((text) => terms(text).some(isAll)),
  mailTaken: ofZone(({ published }) => mailTaken(domain, dnsPlan(domain, published))),
  isDmarc: ofText(isDmarc),
  isEverybody: ofText((text) => terms(text).some(isEverybody)),
  isPass: ofText((text) => terms(text).every(isPass)),
  isReadableMended: ofText(isReadableMended),
  isSpf: ofText(isSpf),
  jsonOctets: ofText(jsonOctets),
  judge: ofZone(({ answers }) => judge(domain, answers, 'success')),
  judgeDmarc: ofZone(({ answers }) => judgeDmarc(domain, answers)),
  judgeSpf: ofZone(({ answers }) => judgeSpf(domain, answers)),
  leftOutOfSpf: ofRecords(leftOutOfSpf),
  looksLikeDmarc: ofText(looksLikeDmarc),
  looksLikeSpf: ofText(looksLikeSpf),
  loopConclusion: ofName((name) => loopConclusion(failedAt(name), { name, loop: loopOf(name) })),
  loopIn: ofZone(({ own }) => loopIn(own)),
  mailFromCnameGone: ofName((name) => mailFromCnameGone(name, name)),
  mailFromName: ofName(mailFromName),
  mailProvider: ofName(mailProvider),
  mergeDmarc: ofRecords((records) => mergeDmarc(records)),
  mergeSpf: ofRecords((records) => mergeSpf(records)),
  namedValue: ofName((name) => namedValue(name, name, name)),
  namesToRead: ofName((name) => namesToRead({ ...domain, name })),
  parentsOf: ofName(parentsOf),
  parseDmarc: ofText(parseDmarc),
  parseDomainName: ofText((text) => orMessage(() => parseDomainName(text))),
  parseHostname: ofText((text) => orMessage(() => parseHostname(text))),
  parseSpf: ofText(parseSpf),
  policyIn: ofText(policyIn),
  policyMeant: ofText(policyMeant),
  possibleZones: ofName(possibleZones),
  preflight: ofZone(({ published }) => preflight({ name }, published, 'acme.com', true)),
  propagating: ofName((name) => propagating('TXT', name)),
  publishedAt: ofZone(({ published }) => publishedAt(published, name)),
  questionsOf: ofName((name) => questionsOf({ ...domain, name })),
  quorum: ofZone(({ own }) => quorum(own, (answer) => JSON.stringify(answer))),
  quoted: ofText(quoted),
  rdata: ofText((text) => rdata('TXT', text)),
  readIn: ofText((text) => readIn(terms(text))),
  recordSets: ofName((name) => recordSets({ ...domain, name })),
  recordsIn: ofZone(({ own }) => recordsIn(own)),
  registrableDomain: ofName(registrableDomain),
  relativeHost: ofName((name) => relativeHost(name, 'acme.com')),
  remedy: ofZone(({ published }) => inZoneOrder(domain).map((check) => remedy(domain, check, published))),
  servfail: ofName((name) => servfail(name, loopOf(name))),
  servfailBehind: ofName((name) => servfailBehind(name, loopOf(name))),
  shownOperations: ofZone(({ published }) => shownOperations(dnsPlan(domain, published), escaped)),
  spfQuestion: ofZone(({ answers }) => spfQuestion(domain, answers)),
  tagsMeant: ofText(tagsMeant),
  traceLoop: ofName((name) => traceLoop(failedAt(`0${name}`), loopAnswers(name))),
  trimmed: ofText((text) => trimmed(text, `${whiteSpace}"'`)),
  unanswered: ofName((name) => unanswered('TXT', name)),
  unescaped: ofText(unescaped),
  unique: ofRecords((records) => unique(ask('TXT', ...records))),
  unknownPolicy: ofText((text) => unknownPolicy(parseDmarc(text))),
  walkSpf: ofZone(({ txt, answers }) => walkSpf(txt[0]!, (at) => answers.at('TXT', at) ?? answers.at('TXT', name))),
  writtenLoop: ofName((name) => writtenLoop(loopOf(name))),
  withoutZone: ofName((name) => withoutZone(`${name}.acme.com`, name)),
  wrongName: ofText((text) => wrongName(domain, name, text)),
  zoneFile: ofName((name) => zoneFile('octodns', { ...domain, name }, name)),
  // These take assessments, and the last of them clues: a run makes those for few texts.
  deciding: ofZone(({ assessment }) => deciding(assessment.findings)),
  allPass: ofZone(({ assessment }) => allPass(assessment.findings)),
  failing: ofZone(({ assessment }) => failing(assessment.findings)),
  isUnanswered: ofZone(({ assessment }) => assessment.findings.map(isUnanswered)),
  isBroken: ofZone(({ assessment }) => isBroken(assessment.findings)),
  isUndecided: ofZone(({ assessment }) => isUndecided(assessment)),
  ownershipSeen: ofZone(({ assessment }) => ownershipSeen(assessment.findings)),
  recordsWithStatus: ofZone(({ assessment }) => recordsWithStatus(domain, assessment.findings.map(seenFinding))),
  sameAssessment: ofZone(({ assessment }) => sameAssessment(assessment, { ...assessment })),
  seenFinding: ofZone(({ assessment }) => assessment.findings.map(seenFinding)),
  spfWarnings: ofZone(({ txt, answers, clues }) =>
    spfWarnings(
      txt[0]!,
      walkSpf(txt[0]!, (at) => answers.at('TXT', at) ?? answers.at('TXT', name)),
      clues,
    ),
  ),
  autoAppended: ofZone(({ clues }) => autoAppended(domain, nameOfText, clues, ([first]) => first)),
  clueQuestions: ofZone((zone) =>
    zone.assessment.findings.map((each) => [
      clueQuestions(domain, each, evidenceOf(zone)),
      clueQuestions(domain, each, { ...evidenceOf(zone), clues: new Answers() }),
    ]),
  ),
  explain: ofZone((zone) => explain(domain, { ...evidenceOf(zone), assessment: zone.assessment })),
  isAbsent: ofZone(({ clues }) => isAbsent(clues, name)),
  onParent: ofZone(({ clues }) =>
    onParent(
      domain,
      (zone) => zone,
      (zone) => recordsIn(clues.at('TXT', zone))?.includes('x') ?? false,
      'x',
    ),
  ),
  ownTxt: ofZone((zone) => ownTxt(domain, evidenceOf(zone))),
};

/** How many runs take all pairs of a reader and a text. */
const share = 8;

/** They only put together what they are given. */
const makers = ['checksOf', 'fail', 'ofLastDomain', 'operation', 'pass', 'retryAllAfter', 'undecided'];

describe('what a zone holds is read in time linear in its length', () => {
  it('by every function that there is', () =>
    expect([...Object.keys(readers), ...makers].sort()).toEqual(functionsIn(__dirname)));

  it('N1: 64,500 spaces between the version and a mark', async () => {
    const { judge, dnsPlan, explain } = readers;
    const text = { before: 'v=DMARC1', repeated: ' ', behind: '!' };
    const some = readersOf({ judge: judge!, dnsPlan: dnsPlan!, explain: explain! }, 0, 3);
    expect(await slowIn(some, text, longest)).toEqual([]);
  });

  it('N1: tags that no one knows, to every function', async () => {
    const text = { before: 'v=DMARC1; p=none;', repeated: 'a#=b;', behind: '' };
    expect(await slowIn(readersOf(readers, 0, share), text, longest / 2)).toEqual([]);
  });

  // What takes long in these shows in an eighth.
  itIsLinear(readers, 17, 3, sample(longest / 8, longest), share);
});
