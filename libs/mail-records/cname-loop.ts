/** Finds the loop of CNAMEs behind a SERVFAIL: most resolvers do not say what they failed at. */
import { definiteIn, loopIn, type Answer, type Answers, type Question } from './answers';
import { failedName, servfail, servfailBehind, type Conclusion } from './checks/finding';
import type { Finding } from './findings';

/** The most CNAMEs that are followed from one name. */
const chainLimit = 16;

/** What answers tell of the CNAMEs from a name. */
export interface CnameTrace {
  /** The question to ask next; undefined when all is known. */
  readonly open?: Question;
  /** The names whose CNAMEs lead from one to the next and back to the first. */
  readonly loop?: readonly string[];
}

export interface LoopTrace extends CnameTrace {
  /** The name that resolvers fail for. */
  readonly name?: string;
}

/** Concludes again where the loop is known. */
export const loopConclusion = (finding: Finding, { name, loop }: LoopTrace): Conclusion | undefined =>
  name === undefined || !loop ? undefined : (name === finding.name ? servfail : servfailBehind)(name, loop);

/** Follows the CNAMEs from a name, as far as answers tell. */
export function traceCnames(name: string, answers: Answers): CnameTrace {
  const seen: string[] = [];
  for (let at = name; seen.length <= chainLimit;) {
    if (seen.includes(at)) return { loop: seen.slice(seen.indexOf(at)) };
    seen.push(at);
    const question: Question = { type: 'CNAME', name: at };
    if (!answers.has(question)) return { open: question };
    const cname = definiteIn(answers.at('CNAME', at));
    if (cname?.kind !== 'records') break;
    at = cname.records[0]!;
  }
  return {};
}

/** Follows the CNAMEs of the name that a finding says resolvers fail for, as far as answers tell. */
export function traceLoop(finding: Finding, answers: Answers): LoopTrace {
  const name = failedName(finding);
  if (name === undefined) return {};
  const shown = loopIn(
    (['TXT', 'MX'] as const).flatMap((type): readonly Answer<unknown>[] => answers.at(type, name) ?? []),
  );
  if (!shown) return { name, ...traceCnames(name, answers) };
  // What the name itself has is needed for the advice, whoever shows the loop.
  const own: Question = { type: 'CNAME', name };
  return { name, loop: shown, ...(name === finding.name && !answers.has(own) && { open: own }) };
}
