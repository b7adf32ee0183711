import { definiteIn, type Answers, type Question } from './answers';

/** CNAMEs followed from one name. */
const chainLimit = 16;

export interface CnameChain {
  /** The name, and the targets of the CNAMEs from it, in their order. */
  readonly names: readonly string[];
  /** Whether the last CNAME leads back to one of the names, so that there is nothing to be found. */
  readonly isLoop: boolean;
  /** The question to ask next; undefined when all is known. */
  readonly open?: Question;
}

/** Follows the CNAMEs from a name, as far as answers tell. */
export function cnameChain(name: string, answers: Answers): CnameChain {
  const names: string[] = [];
  for (let at = name; names.length <= chainLimit;) {
    if (names.includes(at)) return { names, isLoop: true };
    names.push(at);
    const question: Question = { type: 'CNAME', name: at };
    if (!answers.has(question)) return { names, isLoop: false, open: question };
    const cname = definiteIn(answers.at('CNAME', at));
    if (cname?.kind !== 'records') break;
    at = cname.records[0]!;
  }
  return { names, isLoop: false };
}
