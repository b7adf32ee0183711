import { definiteIn, type Answers, type Question } from './answers';

/** The most CNAMEs that are followed from one name. */
const chainLimit = 16;

export interface CnameChain {
  /** The name, and the targets of the CNAMEs from it, in their order. */
  readonly names: readonly string[];
  /** Those whose CNAMEs lead from one to the next and back to the first, so that there is nothing to be found. */
  readonly loop?: readonly string[];
  /** The question to ask next; undefined when all is known. */
  readonly open?: Question;
}

/** Follows the CNAMEs from a name, as far as answers tell. */
export function cnameChain(name: string, answers: Answers): CnameChain {
  const names: string[] = [];
  for (let at = name; names.length <= chainLimit;) {
    if (names.includes(at)) return { names, loop: names.slice(names.indexOf(at)) };
    names.push(at);
    const question: Question = { type: 'CNAME', name: at };
    if (!answers.has(question)) return { names, open: question };
    const cname = definiteIn(answers.at('CNAME', at));
    if (cname?.kind !== 'records') break;
    at = cname.records[0]!;
  }
  return { names };
}
