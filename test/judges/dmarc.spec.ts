import fc from 'fast-check';
import { answerOf, Answers, dnsPlan, judge, type PublishedName } from '@app/mail-records';
import { isDmarc } from '../../libs/mail-records/checks/dmarc/record';
import { anyOf, ask, casesOf, describeJudged, expectOnlyMeant, joined } from '../support/judges';

interface Read {
  readonly isDmarc: boolean;
  readonly policy?: string;
  readonly subdomains?: string;
  readonly error?: string;
}
const read = (texts: readonly string[]) => ask<Read>('dmarc.py', texts);

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const at = `_dmarc.${domain.name}`;
const strength = ['none', 'quarantine', 'reject'];

describeJudged('DMARC, judged by checkdmarc', () => {
  it('is told from other TXT records by its version', () => {
    const texts = casesOf(fc.oneof(versioned, recordOf(anyTag)), 4_000);
    const said = read(texts);
    const judged = texts.map((text, i) => ({ text, ours: isDmarc(text), theirs: said[i]!.isDmarc }));
    expectOnlyMeant(
      'DMARC version, checkdmarc',
      judged.length,
      judged.filter(({ ours, theirs }) => ours !== theirs),
    );
  });

  it('passes where a receiver finds a valid policy of quarantine or reject', () => {
    const texts = casesOf(recordOf(anyTag), 4_000);
    const said = read(texts);
    const judged = texts.map((text, i) => {
      const { outcome, code } = judgeOf(text);
      const { policy = 'none', error } = said[i]!;
      return { text, passes: outcome === 'pass', code, policy, error };
    });
    const differing = judged.filter(
      ({ passes, policy }) => passes !== (policy === 'quarantine' || policy === 'reject'),
    );
    expectOnlyMeant('DMARC verdicts, checkdmarc', judged.length, differing, [
      {
        reason:
          'What is wrong behind the policy is ignored or counts as its default (RFC 7489 section 6.3, RFC 9989 section 4.8); checkdmarc refuses all of it.',
        is: ({ passes, error }) => passes && error === 'DMARCSyntaxError',
      },
      {
        reason:
          'An unknown value of fo, t, psd, adkim or aspf counts as its default (RFC 9989 section 4.8); checkdmarc refuses all of it.',
        is: ({ passes, error, text }) => passes && error === 'InvalidDMARCTagValue' && /;\s*(fo|t|psd)\s*=/i.test(text),
      },
    ]);
  });

  it('is merged into a valid record that is no weaker, at least quarantine', () => {
    const lists = casesOf(fc.array(recordOf(readableTag), { minLength: 1, maxLength: 2 }), 3_000);
    const merged = lists.flatMap((txt) => {
      const [replaced] = dnsPlan(domain, published(txt)).filter(
        ({ name, action }) => name === at && (action === 'replace' || action === 'create'),
      );
      return replaced ? [{ txt, merged: replaced.values[0]! }] : [];
    });
    const before = read(merged.flatMap(({ txt }) => txt));
    const after = read(merged.map(({ merged }) => merged));
    let next = 0;
    const judged = merged.map((each, i) => ({
      ...each,
      before: each.txt.map(() => before[next++]!),
      after: after[i]!,
      ours: judgeOf(each.merged).outcome,
    }));
    const differing = judged.filter(({ before, after: { policy = 'none', subdomains = 'none' }, ours }) => {
      const isWeaker = before.some(
        (one) =>
          strength.indexOf(policy) < strength.indexOf(one.policy ?? 'none') ||
          // Of several records, none counts.
          (before.length === 1 && strength.indexOf(subdomains) < strength.indexOf(one.subdomains ?? 'none')),
      );
      return isWeaker || strength.indexOf(policy) < 1 || ours !== 'pass';
    });
    expectOnlyMeant('DMARC merges, checkdmarc', judged.length, differing, [
      {
        reason:
          'Where two tags run into each other, nobody can tell what was meant: the first keeps its value, which counts as its default.',
        is: ({ merged, after: { error }, ours }) =>
          ours === 'pass' && error !== undefined && /^v=DMARC1; p=(quarantine|reject);.* \w+=[^;]*=/.test(merged),
      },
    ]);
  });
});

function judgeOf(text: string) {
  const { findings } = judge(domain, new Answers().set('TXT', at, answerOf([text])), 'success');
  return findings.find(({ check }) => check === 'dmarc')!;
}

function published(txt: readonly string[]) {
  const name = (txt: readonly string[]): PublishedName => ({
    exists: true,
    cname: null,
    txt,
    mx: [],
    ledTxt: null,
    ledMx: null,
  });
  return {
    names: new Map([[at, name(txt)]]),
    followed: new Answers(),
  };
}

const space = anyOf('∅ ∅ ∅ ∅ ␠ \t ␠␠');
const policy = anyOf('none quarantine quarantine reject reject Reject QUARANTINE quarantin reject. ∅');
const policyTag = joined(anyOf('p p p P sp np'), space, anyOf('='), space, policy);
const readableTag = fc.oneof(
  policyTag,
  anyOf('rua=mailto:d@acme.com rua=mailto:d@acme.com,mailto:e@acme.com!10m ruf=mailto:f@acme.com'),
  anyOf(
    'pct=100 pct=50 pct=0 pct=101 pct=x ri=86400 rf=afrf fo=1 fo=0:d:s t=y t=n adkim=r adkim=s aspf=S aspf=x psd=n psd=u',
  ),
);
const anyTag = fc.oneof(
  { weight: 4, arbitrary: readableTag },
  { weight: 1, arbitrary: anyOf('rua=d@acme.com fo=x t=x psd=x unknown=1 x1=2 p quarantine =x -p=none') },
);
const separator = anyOf('; ;␠ ;␠ ;␠ ␠;␠ ;; ;\t ␠ , : \\; ∅');
const recordOf = (tag: fc.Arbitrary<string>) =>
  joined(
    anyOf('v=DMARC1 v=DMARC1 v=DMARC1 v=DMARC1 V␠=␠DMARC1 v=DMARC1␠ v=dmarc1 v=DMARC2'),
    fc
      .array(joined(fc.oneof({ weight: 6, arbitrary: anyOf(';␠') }, { weight: 1, arbitrary: separator }), tag), {
        maxLength: 5,
      })
      .map((tags) => tags.join('')),
    anyOf('∅ ∅ ; ;␠ ␠'),
  );
const versioned = joined(
  anyOf('∅ ∅ ∅ ␠ " \xef\xbb\xbf'),
  anyOf('v V w ∅'),
  space,
  anyOf('= = = : ∅'),
  space,
  anyOf('DMARC1 DMARC1 dmarc1 DMARC DMARC10 DMARC1.'),
  space,
  separator,
  anyOf('∅ p=none p=reject;'),
);
