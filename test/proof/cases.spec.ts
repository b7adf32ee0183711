import { caseOf, isDistinct } from './cases';

it.each([
  ['add | provisioning-postgres client Bind task-claim | 1 | cut-before', false],
  ['add | provisioning-postgres client Sync task-claim | 1 | cut-after', true],
  ['add | provisioning-mail-server server CommandComplete INSERT | 1 | die-before', false],
  ['add | provisioning-mail-server server ReadyForQuery INSERT | 1 | die-before', true],
  ['add | gateway-postgres client Query BEGIN | 2 | delay', true],
  ['add | provisioning-ses client POST /v2/email/identities | 1 | die-after', true],
  ['add | gateway-client server answer POST /api/v1/domains | 1 | cut-before', true],
])('%s leaves a state of its own: %s', (text, isOne) => expect(isDistinct(caseOf(text))).toBe(isOne));
