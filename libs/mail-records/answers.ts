/** A question to the DNS. */
export interface Question {
  readonly type: keyof Rrs;
  /** FQDN without the trailing dot. */
  readonly name: string;
}

/** The RRs of each type, as answers hold them. */
export interface Rrs {
  readonly MX: MxRr;
  readonly TXT: TxtRr;
  readonly CNAME: string;
}

/**
 * What a resolver sends besides the records, for explanations. It differs from look to look. It decides nothing except
 * whether a SERVFAIL is a failed DNSSEC validation.
 */
export interface AnswerEvidence {
  /**
   * Seconds for which the answer may still be cached: for records, the least TTL on the way to them; for a negative
   * answer, as RFC 2308 section 5 defines it.
   */
  readonly ttl?: number;
  /** The AD bit: the resolver has validated the answer (RFC 4035 section 3.2.3). */
  readonly authenticated?: boolean;
  /** Extended DNS Errors (RFC 8914). */
  readonly extendedErrors?: readonly { readonly code: number; readonly text: string }[];
  /** Present on a SERVFAIL whose cause is a failed DNSSEC validation. */
  readonly bogus?: true;
}

/** The answer of one resolver to one question. */
export type Answer<Rr> = (
  | /** RRs of the queried type; `aliases` are the CNAMEs on the way, in their order. */
    { readonly kind: 'records'; readonly records: readonly Rr[]; readonly aliases: readonly string[] }
    /** The name exists, without the queried type (RFC 2308 section 2.2). */
  | { readonly kind: 'nodata'; readonly aliases: readonly string[] }
  | { readonly kind: 'nxdomain'; readonly aliases: readonly string[] }
  /** `loop`: the names whose CNAMEs lead from one to the next and back to the first, where the answer shows them. */
  | { readonly kind: 'servfail'; readonly loop?: readonly string[] }
  /** No answer that counts: time-out, REFUSED, a broken message, a status other than 200. */
  | { readonly kind: 'unreachable'; readonly reason: string }
) & {
  readonly evidence?: AnswerEvidence;
  /** The DNAME that the name stands below (RFC 6672); present where the resolver shows it. */
  readonly dname?: Dname;
  /** Records of the type that a broken server gives at the name itself, although it has a CNAME. */
  readonly beside?: readonly Rr[];
};

/** A DNAME record: names below its owner are those below its target. */
export interface Dname {
  readonly owner: string;
  readonly target: string;
}

export interface MxRr {
  readonly preference: number;
  /** Lower case, without the trailing dot; empty for the root (RFC 7505). */
  readonly exchange: string;
}

/** A TXT RR is the concatenation of its character-strings, a character a byte. */
export type TxtRr = string;

export type Definite<Rr> = Exclude<Answer<Rr>, { kind: 'servfail' | 'unreachable' }>;

/** The answer of all resolvers together. */
export type Agreed<Rr> =
  | Definite<Rr>
  | { readonly kind: 'servfail'; readonly bogus: boolean; readonly loop?: readonly string[] }
  | { readonly kind: 'unreachable' }
  | { readonly kind: 'disagreement'; readonly records: readonly Rr[] };

/**
 * Makes one answer out of several. A resolver that gives no answer leaves the decision to the others. Resolvers that
 * disagree decide nothing. SERVFAIL is definite when two or more resolvers were asked and all of them say it: then the
 * customer's DNS provider has the outage, not one of our resolvers.
 *
 * @param meaning what a check concludes from an answer. Answers with the same meaning agree, so an unrelated record
 * that one resolver does not have yet makes no difference.
 */
export function quorum<Rr>(answers: readonly Answer<Rr>[], meaning: (answer: Definite<Rr>) => string): Agreed<Rr> {
  const definite = answers.filter((answer) => answer.kind !== 'servfail' && answer.kind !== 'unreachable');
  const [first, ...others] = definite;
  if (first) {
    if (others.every((answer) => meaning(answer) === meaning(first))) return first;
    return {
      kind: 'disagreement',
      records: definite.flatMap((answer) => (answer.kind === 'records' ? answer.records : [])),
    };
  }
  const allServfail = answers.length > 1 && answers.every((answer) => answer.kind === 'servfail');
  if (!allServfail) return { kind: 'unreachable' };
  const loop = loopIn(answers);
  return { kind: 'servfail', bogus: answers.some(({ evidence }) => evidence?.bogus), ...(loop && { loop }) };
}

/** Gives the loop of CNAMEs that an answer shows; undefined where none does. */
export const loopIn = (answers: readonly Answer<unknown>[] = []): readonly string[] | undefined =>
  answers.flatMap((answer) => (answer.kind === 'servfail' && answer.loop ? [answer.loop] : []))[0];

/** Leaves out questions that stand there before. */
export const unique = (questions: readonly Question[]): Question[] => [
  ...new Map(questions.map((question) => [`${question.type} ${question.name}`, question])).values(),
];

/** A question with the answers to it. */
interface Asked {
  readonly question: Question;
  readonly answers: readonly Answer<Rrs[keyof Rrs]>[];
}

/** The answers to the questions about a domain: for each question, one per resolver, in the order of the resolvers. */
export class Answers {
  private readonly byQuestion = new Map<string, Asked>();

  /** @returns undefined where the question was not asked. */
  at<Type extends keyof Rrs>(type: Type, name: string): readonly Answer<Rrs[Type]>[] | undefined {
    return this.byQuestion.get(`${type} ${name}`)?.answers as readonly Answer<Rrs[Type]>[] | undefined;
  }

  set<Type extends keyof Rrs>(type: Type, name: string, answers: readonly Answer<Rrs[Type]>[]): this {
    this.byQuestion.set(`${type} ${name}`, { question: { type, name }, answers });
    return this;
  }

  has({ type, name }: Question): boolean {
    return this.byQuestion.has(`${type} ${name}`);
  }

  /** Gives the questions that have an answer. */
  questions(): Question[] {
    return Array.from(this.byQuestion.values(), ({ question }) => question);
  }

  /** Gives the DNAMEs that the answers show. */
  dnames(): Dname[] {
    const dnames: Dname[] = [];
    for (const { answers } of this.byQuestion.values()) for (const { dname } of answers) if (dname) dnames.push(dname);
    return dnames;
  }

  /** Returns the answers to the questions that pass a test. */
  where(test: (question: Question) => boolean): Answers {
    const some = new Answers();
    for (const [key, asked] of this.byQuestion) if (test(asked.question)) some.byQuestion.set(key, asked);
    return some;
  }

  /** Returns these answers and the others'. Where both have a question, the others' answers count. */
  with(...others: readonly Answers[]): Answers {
    const all = new Answers();
    for (const { byQuestion } of [this, ...others])
      for (const [key, asked] of byQuestion) all.byQuestion.set(key, asked);
    return all;
  }
}

/** Gives the first answer that says what there is; undefined where there is none. */
export const definiteIn = <Rr>(answers: readonly Answer<Rr>[] = []): Definite<Rr> | undefined =>
  answers.find((answer) => answer.kind === 'records' || answer.kind === 'nodata' || answer.kind === 'nxdomain');

/** Gives the records of the first definite answer; undefined where there is none. */
export function recordsIn<Rr>(answers: readonly Answer<Rr>[] = []): readonly Rr[] | undefined {
  const definite = definiteIn(answers);
  return definite && (definite.kind === 'records' ? definite.records : []);
}

/** Makes the answer that a name with these records would give, to judge records that were read in another way. */
export const answerOf = <Rr>(records: readonly Rr[], aliases: readonly string[] = []): readonly Answer<Rr>[] => [
  records.length > 0 ? { kind: 'records', records, aliases } : { kind: 'nodata', aliases },
];
