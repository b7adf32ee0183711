import { Answers, type Answer, type Question, type Rrs } from '@app/mail-records';

/** A resolver that answers the questions of checks. */
export type Resolver = {
  readonly [Type in keyof Rrs as Lowercase<Type>]: (name: string) => Promise<Answer<Rrs[Type]>>;
};

/** Asks one resolver one question. */
export function ask(resolver: Resolver, { type, name }: Question): Promise<Answer<Rrs[keyof Rrs]>> {
  switch (type) {
    case 'MX':
      return resolver.mx(name);
    case 'TXT':
      return resolver.txt(name);
    case 'CNAME':
      return resolver.cname(name);
  }
}

/** Gives the answers to a question; undefined when there is no time left for it. */
export type Asker = (question: Question) => Promise<readonly Answer<Rrs[keyof Rrs]>[] | undefined>;

/**
 * Makes an asker that asks every resolver. When `patienceMs` milliseconds have passed since it was made, it asks none
 * and answers `unreachable`.
 */
export function everyResolver(resolvers: readonly Resolver[], patienceMs: number): Asker {
  const startedAt = performance.now();
  return (question) =>
    performance.now() - startedAt > patienceMs
      ? Promise.resolve([{ kind: 'unreachable', reason: 'not asked in time' }])
      : Promise.all(resolvers.map((resolver) => ask(resolver, question)));
}

/**
 * Asks the open questions and keeps the answers, round by round, until no question is open or there is no time left.
 *
 * @param open gives the questions that the answers leave open; one that has an answer is never open again.
 */
export async function follow(answers: Answers, open: () => readonly Question[], asker: Asker): Promise<void> {
  for (let questions = open(); questions.length > 0; questions = open()) {
    const said = await Promise.all(questions.map(asker));
    for (const [i, { type, name }] of questions.entries()) if (said[i]) answers.set(type, name, said[i]);
    if (said.includes(undefined)) return;
  }
}
