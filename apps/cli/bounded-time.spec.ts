import { amendmentText, isSigned, readRestoration, readStatement, checkProof } from '@app/audit';
import { checkChain, fromLine } from '@app/event-store';
import { itIsLinear, ofText, outcomeOf, textsOf, type Reader } from '../../test/support/bounded-time';
import { headerLine, isArchiveHeader, readAmendmentLine, readHeader, readSeal, sealLine } from './event-file';
import { selectionOf } from './event-selection';
import { table } from './output';

const time = '2026-03-01T10:00:00.000Z';
const hash = '0'.repeat(64);
/** A line as an export has it, with the text for one of its members. */
const lineWith = (member: string, text: string): string =>
  JSON.stringify({
    specversion: '1.0',
    id: 'mdom_1/1',
    source: '/sendmux-domains',
    type: 'com.sendmux.DomainAdded',
    subject: 'mdom_1',
    time,
    dataschema: 'urn:sendmux:event:DomainAdded:1',
    sequence: '0000000000000001',
    streamversion: '1',
    metadata: '{}',
    previoushash: hash,
    hash,
    [member]: text,
    data: { name: text },
  });
const members = ['id', 'type', 'subject', 'time', 'dataschema', 'sequence', 'streamversion', 'metadata', 'hash'];
const of = (type: string, data: unknown) => JSON.stringify({ type: `com.sendmux.${type}`, data });
const archive = { streamsNamed: () => Promise.resolve([]), streamsWith: () => Promise.resolve([]) };

const amendment = amendmentText({
  log: 'a',
  number: 1,
  previous: hash,
  seals: 0,
  events: 1,
  root: hash,
  reason: 'personal-data-encrypted',
  time,
});

const readers: Record<string, Reader> = {
  'the first line of a file': ofText((text) => [
    readHeader(text),
    isArchiveHeader(text),
    readHeader(of('export.Begun', { format: text })),
    readHeader(headerLine(text, { format: 'sendmux-export/1', events: 1, seals: 0, head: 1 }, new Date(0))),
  ]),
  'an amendment of a file': ofText((text) => [
    readAmendmentLine(text),
    readAmendmentLine(of('audit.Amended', { statement: text })),
    readAmendmentLine(of('audit.Amended', { statement: amendment, changes: [[1, text, text]] })),
  ]),
  'a seal of a file': ofText((text) => [
    readSeal(text),
    readSeal(of('audit.Sealed', { statement: text, signer: text, signature: text })),
    outcomeOf(() => sealLine({ statement: text, signer: text, signature: text })),
    isSigned({ statement: text, signer: text, signature: text }, new Map()),
    readStatement(`sendmux-seal/1\nlog ${text}`),
    readStatement(`sendmux-seal/2\nlog a\nepoch ${text}`),
    readRestoration(`sendmux-restore/1\nlog ${text}`),
  ]),
  'an event of a file': ofText((text) =>
    Promise.all(members.map((member) => outcomeOf(() => checkChain()(fromLine(lineWith(member, text)))))),
  ),
  'a proof': ofText((text) => {
    const event = { version: 1, position: 1, type: text, time: text, data: text, metadata: text, hash: text };
    const proof = { format: 'sendmux-proof/1', stream: text, events: [{ ...event, schema_version: 1 }], seals: {} };
    return outcomeOf(() => checkProof(proof, new Map()));
  }),
  'what is typed': ofText((text) =>
    Promise.all(
      [{ from: text }, { domain: text }, { domain: `mdom_${text}` }, { type: [text] }].map((typed) =>
        outcomeOf(() => selectionOf({} as never, archive as never, typed)),
      ),
    ),
  ),
  'a table': (text, length) => {
    const rows = textsOf(text, length).map((each) => [each, each]);
    return { octets: 2 * length, run: () => table(['A', 'B'], rows) };
  },
};

describe('what a file or an operator gives is read in time linear in its length', () => itIsLinear(readers, 17, 20));

it('takes no amendment whose changes are none', () => {
  const line = (changes: unknown) => readAmendmentLine(of('audit.Amended', { statement: amendment, changes }));
  for (const changes of [undefined, 'x', [null], [[1, hash]], [[1, hash, 'x']], [['1', hash, hash]]])
    expect(line(changes)).toBeUndefined();
  expect(line([[1, hash, hash]])?.changes).toEqual([
    { position: 1, before: Buffer.alloc(32), after: Buffer.alloc(32) },
  ]);
});
