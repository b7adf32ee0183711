/** Finds the targets of an SPF record at which no receiver finds one more record, so that it is better without them. */
import { definiteIn, loopIn, type Answers, type Question } from '../../answers';
import { cnameChain } from '../../cname-chain';
import { spfTargets } from './merge';

/** `self`: it leads back to the record that names it. `loop`: its CNAMEs form a loop. */
export type Lost = 'self' | 'loop';

/** Tells why nobody finds another record at a target, as far as answers tell; undefined where somebody may. */
export function lostTarget(name: string, target: string, answers: Answers): Lost | undefined {
  const said = answers.at('TXT', target);
  const { names, loop } = cnameChain(target, answers);
  if ([...names, ...(definiteIn(said)?.aliases ?? [])].includes(name)) return 'self';
  return loop || loopIn(said) ? 'loop' : undefined;
}

/** Gives the questions that tell whether CNAMEs form a loop at targets for which resolvers fail. */
export const lostQuestions = (records: readonly string[], answers: Answers): Question[] =>
  spfTargets(records)
    .filter((target) => answers.at('TXT', target)?.every(({ kind }) => kind === 'servfail'))
    .flatMap((target) => cnameChain(target, answers).open ?? []);
