import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { answersOf, type Said } from '../../test/support/answers';
import { anyCharacter } from '../../test/support/characters';
import { sample } from '../../test/support/sample';
import { Answers, type Answer, type AnswerEvidence } from './answers';
import { explain } from './explain';
import { judge } from './judge';
import { cut, cutList, jsonOctets, limits, shownOperations } from './limits';
import { operation } from './operation';
import { dnsPlan } from './plan';
import { escaped } from './record-set';

/** `message.max.bytes` of a broker with its own settings, in octets. */
const kafkaTakes = 1_048_588;

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const sha256 = (text: string, encoding: BufferEncoding) =>
  createHash('sha256').update(Buffer.from(text, encoding)).digest('hex');
const both = <Rr>(records: readonly Rr[], evidence: AnswerEvidence = {}): Answer<Rr>[] => {
  const answer: Answer<Rr> = { kind: 'records', records, aliases: [], evidence };
  return [answer, answer];
};
/** The octets of everything that a look at these answers puts into an event, and into the answer to a customer. */
function sizes(said: Said) {
  const answers = answersOf(domain, said);
  const assessment = judge(domain, answers, 'pending');
  const explained = explain(domain, { assessment, answers, clues: answers, ses: null });
  const answer = explained.map((each) => ({ ...each, fix: shownOperations(each.fix, escaped) }));
  return {
    assessment,
    event: Buffer.byteLength(JSON.stringify(assessment)),
    answer: Buffer.byteLength(JSON.stringify(answer)),
  };
}

describe('N2: what a zone puts into an event and an answer', () => {
  it('is bounded where SPF and DMARC have 60,000 octets each, and names the whole by its length and hash', () => {
    const spf = `v=spf1 ${'\xff'.repeat(60_000)}`;
    const dmarc = `v=DMARC1; p=${'\x80'.repeat(60_000)}`;
    const { assessment, event, answer } = sizes({ spf: both([spf]), dmarc: both([dmarc]) });
    const observed = assessment.findings.map((finding) => finding.observed);
    expect(observed[2]![0]).toMatch(/^v=spf1 \\255\\255/);
    expect(observed[2]![0]!.endsWith(`… (cut: 60007 octets, SHA-256 ${sha256(spf, 'latin1')})`)).toBe(true);
    expect(observed[3]![0]!.endsWith(`… (cut: 60012 octets, SHA-256 ${sha256(dmarc, 'latin1')})`)).toBe(true);
    expect(event).toBeLessThan(kafkaTakes / 4);
    expect(answer).toBeLessThan(kafkaTakes / 2);
  });

  it('is bounded whatever the answers have, many records and long errors of the resolvers included', () => {
    const octet = fc.constantFrom('\xff', '\0', '\\', '"', 'a', ' ', ',', ';', '\x80');
    const start = fc.constantFrom('', 'v=spf1 ', 'v=DMARC1; p=', 'v=spf1 include:', 'sendmux-verify=', 'v=DMARC1;');
    const texts = fc.tuple(start, octet, fc.integer({ min: 1, max: 64_000 })).map(([first, each, length]) => {
      // An answer has 65,535 octets at most, in few long records or in many short ones.
      const count = Math.floor(64_000 / (length + 13));
      return Array.from({ length: Math.max(1, count) }, (_, i) => `${first}${each.repeat(length - 1)}${i}`);
    });
    const labels = fc.integer({ min: 1, max: 220 }).map((length) =>
      // By compression, thousands of names of full length fit into one answer.
      Array.from({ length: 4_000 }, (_, i) => ({ preference: i % 30, exchange: `${'\\255'.repeat(length)}.h${i}` })),
    );
    const errors = fc.integer({ min: 0, max: 60_000 }).map((length): AnswerEvidence => ({
      extendedErrors: Array.from({ length: 200 }, (_, code) => ({ code, text: '\x01'.repeat(length / 200) })),
    }));
    const property = fc.property(texts, texts, texts, labels, errors, (spf, dmarc, verification, mx, evidence) => {
      const { event, answer } = sizes({
        mx: both(mx, evidence),
        spf: both(spf, evidence),
        dmarc: both(dmarc, evidence),
        verification: both(verification, evidence),
      });
      expect(event).toBeLessThan(kafkaTakes / 4);
      expect(answer).toBeLessThan(kafkaTakes / 2);
    });
    fc.assert(property, { numRuns: sample(3, 10) });
  });

  it('is bounded in a plan', () => {
    const names = new Map([
      [
        domain.name,
        {
          exists: true,
          cname: null,
          ledTxt: null,
          ledMx: null,
          txt: Array.from({ length: 200 }, (_, i) => `v=spf1 ${'\xff'.repeat(250)} ${i}`),
          mx: Array.from({ length: 4_000 }, (_, i) => ({ preference: 1, exchange: `${'x'.repeat(240)}.h${i}` })),
        },
      ],
    ]);
    const shown = shownOperations(dnsPlan(domain, { names, followed: new Answers() }), escaped);
    expect(Buffer.byteLength(JSON.stringify(shown))).toBeLessThan(kafkaTakes / 4);
    expect(shown.map(({ values }) => values.at(-1))).toContainEqual(
      expect.stringMatching(/^… \(left out: \d+ more, SHA-256 [0-9a-f]{64}\)$/),
    );
  });

  it('tells two records apart that differ beyond the limit only', () => {
    const observed = (last: string) => sizes({ spf: both([`v=spf1 ${'a'.repeat(50_000)}${last}`]) }).assessment;
    expect(observed('1')).not.toEqual(observed('2'));
    expect(observed('1')).toEqual(observed('1'));
  });
});

describe('a text', () => {
  it('is left as it is up to the limit, counted as JSON in UTF-8', () => {
    for (const [text, most] of [
      ['a', 100],
      ['"', 50],
      ['\x01', 16],
      ['é', 50],
      ['’', 33],
    ] as const) {
      const whole = text.repeat(most);
      expect(cut(whole, 100)).toBe(whole);
      expect(cut(whole + text, 100)).not.toBe(whole + text);
    }
  });

  it('is counted as JSON has it, whatever characters it has', () =>
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: anyCharacter })), (text) =>
        expect(jsonOctets(text)).toBe(Buffer.byteLength(JSON.stringify(text)) - 2),
      ),
      { examples: [[''], [' !"#[\\]~'], ['\x7f'], ['\x1f'], ['\ud800']] },
    ));

  it('that is cut keeps its beginning, fits the limit, and never ends in half a character', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1, unit: anyCharacter }),
        fc.integer({ min: 150, max: 600 }),
        (part, limit) => {
          const text = part.repeat(Math.ceil(700 / part.length));
          const shown = cut(text, limit);
          expect(jsonOctets(shown)).toBeLessThanOrEqual(limit);
          const kept = shown.slice(0, shown.lastIndexOf('… (cut: '));
          expect(text.startsWith(kept)).toBe(true);
          expect(/[\ud800-\udbff]$/.test(kept)).toBe(
            /[\ud800-\udbff](?![\udc00-\udfff])/.test(text) && /[\ud800-\udbff]$/.test(kept),
          );
        },
      ),
      { numRuns: 30 },
    );
  });

  it('of people is hashed in UTF-8', () =>
    expect(cut('’'.repeat(200), 200)).toMatch(
      new RegExp(`cut: 600 octets, SHA-256 ${sha256('’'.repeat(200), 'utf8')}`),
    ));
});

describe('a list', () => {
  it('says how much was left out', () => {
    const values = Array.from({ length: 100 }, (_, i) => `${i} ${'x'.repeat(20)}`);
    const shown = cutList(values, 600);
    const rest = values.slice(shown.length - 1);
    expect(shown.at(-1)).toBe(
      `… (left out: ${rest.length} more, SHA-256 ${sha256(rest.map((each) => `${each}\n`).join(''), 'latin1')})`,
    );
    expect(Buffer.byteLength(JSON.stringify(shown))).toBeLessThanOrEqual(600);
    expect(cutList(values)).toEqual(values);
  });
});

it('operations beyond the limit are joined by what they do, and none is lost', () => {
  const place = { name: 'mail.acme.com', type: 'MX' } as const;
  const all = Array.from({ length: limits.entries + 20 }, (_, i) => operation('delete', place, [`1 h${i}`], 'Gone.'));
  const shown = shownOperations([...all, operation('keep', place, ['10 x'], 'Stays.')], escaped);
  expect(shown).toHaveLength(limits.entries + 2);
  expect(shown.flatMap(({ values }) => values)).toHaveLength(limits.entries + 21);
});
