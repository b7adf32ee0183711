/** Finds the loop of CNAMEs behind a SERVFAIL: most resolvers do not say what they failed at. */
import { loopIn, type Answer, type Answers, type Question } from './answers';
import { failedName, servfail, servfailBehind, type Conclusion } from './checks/finding';
import { cnameChain, type CnameChain } from './cname-chain';
import type { Finding } from './findings';

/** What answers tell of the name that resolvers fail for, as `CnameChain` has it. */
export interface LoopTrace extends Partial<Pick<CnameChain, 'loop' | 'open'>> {
  /** The name that resolvers fail for. */
  readonly name?: string;
}

/** Concludes again where the loop is known. */
export const loopConclusion = (finding: Finding, { name, loop }: LoopTrace): Conclusion | undefined =>
  name === undefined || !loop ? undefined : (name === finding.name ? servfail : servfailBehind)(name, loop);

/** Follows the CNAMEs of the name that a finding says resolvers fail for, as far as answers tell. */
export function traceLoop(finding: Finding, answers: Answers): LoopTrace {
  const name = failedName(finding);
  if (name === undefined) return {};
  const shown = loopIn(
    (['TXT', 'MX'] as const).flatMap((type): readonly Answer<unknown>[] => answers.at(type, name) ?? []),
  );
  if (!shown) {
    const { loop, open } = cnameChain(name, answers);
    return { name, ...(loop && { loop }), ...(open && { open }) };
  }
  // What the name itself has is needed for the advice, whoever shows the loop.
  const own: Question = { type: 'CNAME', name };
  return { name, loop: shown, ...(name === finding.name && !answers.has(own) && { open: own }) };
}
