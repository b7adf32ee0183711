/** Finds the loop of CNAMEs behind a SERVFAIL: most resolvers do not say what they failed at. */
import { definiteIn, loopIn, type Answer, type Answers, type Question } from './answers';
import { servfail, servfailBehind, type Conclusion } from './checks/finding';
import type { Finding } from './findings';
import { cut, limits } from './limits';

/** CNAMEs followed from one name. */
const chainLimit = 16;

export interface LoopTrace {
  /** The name that resolvers fail for. */
  readonly name?: string;
  /** The question to ask next; undefined when all is known. */
  readonly open?: Question;
  /** The names whose CNAMEs lead from one to the next and back to the first. */
  readonly loop?: readonly string[];
}

/** Concludes again where the loop is known. */
export const loopConclusion = (finding: Finding, { name, loop }: LoopTrace): Conclusion | undefined =>
  name === undefined || !loop ? undefined : (name === finding.name ? servfail : servfailBehind)(name, loop);

/** Follows the CNAMEs of the name that a finding says resolvers fail for, as far as answers tell. */
export function traceLoop(finding: Finding, answers: Answers): LoopTrace {
  const name = failedName(finding, answers);
  if (name === undefined) return {};
  const shown = loopAt(name, answers);
  // What the name itself has is needed for the advice, whoever shows the loop.
  const own: Question = { type: 'CNAME', name };
  if (shown) return { name, loop: shown, ...(name === finding.name && !answers.has(own) && { open: own }) };
  const seen: string[] = [];
  for (let at = name; seen.length <= chainLimit;) {
    if (seen.includes(at)) return { name, loop: seen.slice(seen.indexOf(at)) };
    seen.push(at);
    const question: Question = { type: 'CNAME', name: at };
    if (!answers.has(question)) return { name, open: question };
    const cname = definiteIn(answers.at('CNAME', at));
    if (cname?.kind !== 'records') break;
    at = cname.records[0]!;
  }
  return { name };
}

const loopAt = (name: string, answers: Answers): readonly string[] | undefined =>
  loopIn((['TXT', 'MX'] as const).flatMap((type): readonly Answer<unknown>[] => answers.at(type, name) ?? []));

/** Gives the name that the message of a finding is about: its own, or one that its record leads to. */
function failedName({ code, message, name }: Finding, answers: Answers): string | undefined {
  if (code !== 'dns_servfail' && code !== 'cname_loop') return undefined;
  const isMeant = (each: string) => {
    const loop = code === 'cname_loop' ? loopAt(each, answers) : undefined;
    return [servfail, servfailBehind].some((say) => cut(say(each, loop).message, limits.text) === message);
  };
  return [name, ...answers.questions().map((each) => each.name)].find(isMeant);
}
