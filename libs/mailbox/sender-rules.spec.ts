import { noSenderFilters } from '@app/mail-domain';
import { parseSender } from './address';
import { canonicalRules, rulesDigest, SenderRuleRefused, type SenderRule } from './sender-rules';

const rule = (pattern: string, type: SenderRule['type'] = 'allow', note: string | null = null) => ({
  type,
  pattern,
  note,
});

describe('a sender of a rule', () => {
  it.each([
    ['Ada@Partner.COM', 'ada@partner.com'],
    ['partner.com', 'partner.com'],
    ['*@Partner.com.', 'partner.com'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['*@gmail.com', 'gmail.com'],
    ['co.uk', 'co.uk'],
    ['"ada"@partner.com', 'ada@partner.com'],
    ['billing+a=b@mail.test', 'billing+a=b@mail.test'],
  ])('%s is %s', (written, sender) => expect(parseSender(written)).toBe(sender));

  it.each([
    '',
    '@',
    'ada@',
    '@partner.com',
    '*',
    '*.partner.com',
    'a*@partner.com@',
    'https://partner.com',
    '10.0.0.1',
  ])('%s is none', (written) => expect(() => parseSender(written)).toThrow());
});

describe('the rules about senders', () => {
  it('are sorted by their canonical patterns, whatever the order they came in', () => {
    const rules = [rule('partner.com'), rule('Ada@Acme.com', 'deny', 'left'), rule('*@acme.com')];
    const canonical = canonicalRules(rules);
    expect(canonical.map(({ pattern }) => pattern)).toEqual(['acme.com', 'ada@acme.com', 'partner.com']);
    expect(rulesDigest(canonicalRules(rules.toReversed()))).toBe(rulesDigest(canonical));
  });
  it('have another digest for another type or note', () => {
    const digests = [rule('a.com'), rule('a.com', 'deny'), rule('a.com', 'allow', 'x')].map((one) =>
      rulesDigest([one]),
    );
    expect(new Set(digests).size).toBe(3);
  });
  it('have the digest of the model when there are none', () => expect(rulesDigest([])).toBe(noSenderFilters.digest));
  it('are refused by their place: no sender, or one that is there twice', () => {
    const refusal = (...rules: SenderRule[]) => {
      try {
        return canonicalRules(rules);
      } catch (error) {
        return error as SenderRuleRefused;
      }
    };
    expect(refusal(rule('a.com'), rule('b'))).toMatchObject({ name: 'SenderRuleRefused', index: 1 });
    expect(refusal(rule('a.com'), rule('*@A.com', 'deny'))).toMatchObject({
      index: 1,
      message: 'There are two rules about a.com. Leave one of them out.',
    });
  });
});
