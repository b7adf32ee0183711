import { Answers, answerOf, type Answer, type AnswerEvidence } from './answers';
import type { Expected } from './check';
import { recordSets } from './records';

/**
 * Makes the answers of resolvers that see all records of a domain in place.
 *
 * @param resolvers how many there are.
 */
export function answersInPlace(domain: Expected, resolvers = 2, evidence?: AnswerEvidence): Answers {
  const answers = new Answers();
  const given = <Rr>(records: readonly Rr[]) =>
    Array.from({ length: resolvers }, (): Answer<Rr> => ({ ...answerOf(records)[0]!, ...(evidence && { evidence }) }));
  for (const { name, type, values } of recordSets(domain))
    if (type === 'MX')
      answers.set(
        type,
        name,
        given(
          values.map((value) => {
            const [preference, exchange] = value.split(' ') as [string, string];
            return { preference: Number(preference), exchange };
          }),
        ),
      );
    else answers.set(type, name, given(values));
  return answers;
}
