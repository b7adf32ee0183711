import { setTimeout as delay } from 'node:timers/promises';
import {
  Answers,
  clueQuestions,
  explain,
  type Answer,
  type Expected,
  type Explained,
  type Question,
  type ResolverEvidence,
  type Rrs,
  type SesExplanation,
} from '@app/mail-records';
import { ask, follow, type Asker, type Resolver } from './follow';
import type { Look } from './verifier';

export interface ExplainedCheck extends Explained {
  readonly resolvers: readonly (ResolverEvidence & {
    /** Host and path of the resolver's URL. */
    readonly resolver: string;
  })[];
}

/** Asks for further records when a customer wants to know why a check fails. What it finds changes no assessment. */
export class Explainer {
  /**
   * @param resolvers each question goes to the first, and to the next one only when it gives no answer.
   * @param names of the resolvers that were asked in the look, in its order.
   * @param patienceMs milliseconds that a customer waits for an explanation.
   */
  constructor(
    private readonly resolvers: readonly Resolver[],
    private readonly names: readonly string[],
    private readonly patienceMs = 3_000,
  ) {}

  /**
   * Explains an assessment. It never throws, and leaves out what cannot be asked in time.
   *
   * @param ses null when SES gave no answer.
   */
  async explain(
    domain: Expected,
    { assessment, answers }: Pick<Look, 'assessment' | 'answers'>,
    ses: SesExplanation | null,
  ): Promise<ExplainedCheck[]> {
    const over = new AbortController();
    const late = delay(this.patienceMs, undefined, { signal: over.signal }).catch(() => undefined);
    const evidence = { answers, clues: new Answers(), ses };
    const asker: Asker = (question) => Promise.race([this.first(question), late]);
    await Promise.all(
      assessment.findings.map((finding) =>
        follow(evidence.clues, () => clueQuestions(domain, finding, evidence), asker),
      ),
    );
    over.abort();
    return explain(domain, { ...evidence, assessment }).map((explained) => ({
      ...explained,
      resolvers: explained.resolvers.map((each, i) => ({ resolver: this.names[i % this.names.length] ?? '', ...each })),
    }));
  }

  private async first(question: Question): ReturnType<Asker> {
    let answer: Answer<Rrs[keyof Rrs]> | undefined;
    for (const resolver of this.resolvers) {
      answer = await ask(resolver, question);
      if (answer.kind !== 'unreachable' && answer.kind !== 'servfail') break;
    }
    return answer && [answer];
  }
}
