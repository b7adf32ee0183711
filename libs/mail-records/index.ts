export * from './answers';
export {
  domainModes,
  type Check,
  type DkimAnswer,
  type DomainMode,
  type Expected,
  type Requirement,
  type SesExplanation,
  type ToRead,
} from './check';
export { checkNamed, checkNames, checks, checksOf, type CheckName } from './checks';
export { haveSameTokens } from './checks/dkim';
export { mailFromName } from './checks/mail-from/name';
export { ownership, ownershipSeen, type OwnershipSeen } from './checks/ownership';
export { cnameChain } from './cname-chain';
export * from './dns-hosts';
export * from './domain-name';
export { clueQuestions, explain, retryAllAfter, type Explained, type ResolverEvidence } from './explain';
export * from './findings';
export { followUps, judge, questionsOf } from './judge';
export { cut, cutList, jsonOctets, limits, shownOperations } from './limits';
export type { Operation } from './operation';
export { hostOf } from './entry';
export { openTraces, publishedIn } from './published';
export { mailTaken, planWarnings, rehearsalQuestions, type PlanWarning } from './rehearsal';
export { isProbe, wildcardProbe } from './synthesis';
export { dnsPlan, namesToRead } from './plan';
export * from './preflight';
export type { NameToRead, Published, PublishedName } from './published';
export { escaped, rdata } from './record-set';
export {
  recordsWithStatus,
  recordStatuses,
  seenFinding,
  seenLimits,
  type RecordStatus,
  type RecordWithStatus,
  type SeenFinding,
} from './record-status';
export { answersInPlace } from './in-place';
export * from './records';
export * from './zone';
export * from './zone-file';
