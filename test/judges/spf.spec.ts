import fc from 'fast-check';
import { Answers, dnsPlan, explain, judge, type Answer, type PublishedName, type TxtRr } from '@app/mail-records';
import { parseSpf } from '../../libs/mail-records/checks/spf/record';
import { anyOf, ask, casesOf, describeJudged, expectOnlyMeant, joined } from '../support/judges';

type Zone = Record<string, { TXT?: readonly string[]; A?: readonly string[] }>;
type Result = 'none' | 'neutral' | 'pass' | 'fail' | 'softfail' | 'temperror' | 'permerror';
/**
 * Without a limit to look-ups that find nothing: receivers may have one (RFC 7208 section 4.6.4: “SHOULD”), and we
 * warn.
 */
const evaluate = (zones: readonly Zone[]) =>
  ask<Result[]>(
    'spf.py',
    zones.map((zone) => ({ domain: domain.name, ips: senders, voids: 1_000, zone })),
  );

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
/**
 * Senders: one that only Amazon SES authorises, one that only our relays do, one that only vendors' records name, and a
 * stranger.
 */
const ses = '192.0.2.1';
const relay = '192.0.2.2';
const vendor = '203.0.113.5';
const stranger = '198.51.100.200';
const senders = [ses, relay, vendor, stranger];
const ours: Zone = {
  'amazonses.com': { TXT: [`v=spf1 ip4:${ses} -all`] },
  'sendmux.ai': { TXT: [`v=spf1 ip4:${relay} -all`] },
};

/** Words of which some come more often. */
const weighted = (...choices: [weight: number, words: string | fc.Arbitrary<string>][]) =>
  fc.oneof(
    ...choices.map(([weight, words]) => ({ weight, arbitrary: typeof words === 'string' ? anyOf(words) : words })),
  );
const record = (terms: fc.Arbitrary<string>, maxLength: number) =>
  fc.array(terms, { maxLength }).map((all) => ['v=spf1', ...all].join(' '));

describeJudged('SPF, judged by pyspf', () => {
  it('is read as the grammar of RFC 7208 section 12 has it', () => {
    const written = casesOf(record(anyTerm, 3), 4_000);
    // The grammar holds for all of a record before any of it is evaluated, and its first term decides here.
    const zones = written.map((text) => ({ 'mail.acme.com': { TXT: [text.replace('v=spf1', `v=spf1 ip4:${ses}`)] } }));
    const results = evaluate(zones);
    const judged = written.map((text, i) => ({
      text,
      ours: 'syntaxError' in parseSpf(text) ? 'permerror' : 'pass',
      theirs: results[i]![0]!,
    }));
    const differing = judged.filter(({ ours, theirs }) => ours !== theirs);
    expectOnlyMeant('SPF syntax, pyspf', judged.length, differing, [
      {
        reason:
          'A name with a comma, a colon or an empty label in it is legal, and a slip of the pen: it authorises nobody who was meant.',
        is: ({ text, ours }) => ours === 'permerror' && text.split(' ').some((term) => isSlip.test(term)),
      },
      {
        reason:
          'A macro that is not closed, counts from zero, or has its parts in another order is an error (section 7.1); pyspf accepts it.',
        is: ({ text, ours }) => ours === 'permerror' && /%\{[^}]*$|%\{[^}]* |%\{\w0+\D|%\{\wr\d/.test(text),
      },
      {
        reason: 'A domain may end in “%%” (section 7.1, macro-expand); pyspf takes it for an unfinished macro.',
        is: ({ text, ours }) => ours === 'pass' && /%%([/ ]|$)/.test(text),
      },
      {
        reason: 'An unknown modifier is ignored whatever its macros stand for (section 6): only its grammar counts.',
        is: ({ text, ours }) => ours === 'pass' && /f-o_o\.x=\S*%\{[crt]\}/.test(text),
      },
    ]);
  });

  it('passes where our senders pass, and nowhere else', () => {
    const graphs = casesOf(graph, 3_000);
    const results = evaluate(graphs);
    const judged = graphs.map((zone, i) => ({ zone: reachable(zone), ...verdict(zone), ...named(results[i]!) }));
    const differing = judged.filter(({ passes, isBreaking, warnings, ses, relay, stranger }) => {
      const bothPass = ses === 'pass' && relay === 'pass';
      if (!passes) return bothPass;
      const isErrorToldOf = warnings.some((code) => /^spf_(too_many_lookups|broken_include)$/.test(code));
      return (!isBreaking && !bothPass) || (stranger === 'permerror' && !isErrorToldOf);
    });
    expectOnlyMeant('SPF verdicts, pyspf', judged.length, differing, [
      {
        reason: 'A record that lets everybody pass does not name us: the guide asks for both includes.',
        is: ({ passes, stranger }) => !passes && stranger === 'pass',
      },
      {
        reason: 'An include of the record itself behind “all” is never read (section 5.1); pyspf refuses the record.',
        is: ({ zone }) => Object.entries(zone).some(([name, text]) => text.includes(`include:${name}`)),
      },
      {
        reason: 'An unknown modifier is ignored however often it is there (section 6); pyspf refuses the record.',
        is: ({ zone }) => Object.values(zone).some((text) => /foo=.* foo=/.test(text)),
      },
    ]);
  });

  it('is merged into a record that authorises us, whoever it authorised, and nobody else', () => {
    const graphs = casesOf(graph, 3_000);
    const merged = graphs.flatMap((zone) => {
      const operations = dnsPlan(domain, published(zone)).filter(
        ({ name, type, action }) => name === domain.name && type === 'TXT' && action !== 'keep',
      );
      const [replaced] = operations.filter(({ action }) => action === 'replace');
      return replaced ? [{ before: zone, after: applied(zone, replaced), reason: replaced.reason }] : [];
    });
    const before = evaluate(merged.map(({ before }) => before));
    const after = evaluate(merged.map(({ after }) => after));
    const judged = merged.map(({ before: zone, after: then, reason }, i) => ({
      zone: reachable(zone),
      merged: then[domain.name]!.TXT!,
      reason,
      before: named(before[i]!),
      after: named(after[i]!),
    }));
    const differing = judged.filter(({ before, after, reason }) => {
      if (after.ses !== 'pass' || after.relay !== 'pass') return true;
      // Nobody passed before, or a receiver may have stopped at any term.
      if (before.stranger === 'permerror' || before.stranger === 'none') return false;
      if (after.stranger === 'permerror') return !/RFC 7208/.test(reason);
      return (['vendor', 'stranger'] as const).some((who) => (before[who] === 'pass') !== (after[who] === 'pass'));
    });
    expectOnlyMeant('SPF merges, pyspf', judged.length, differing);
  });
});

/** A domain without a macro that is no host name. */
const isSlip = /^[^%]*?[:=](\.|[^%]*(\.\.|[^a-z0-9_.%-]))[^%]*$/i;

const named = ([ses, relay, vendor, stranger]: readonly Result[]) => ({ ses, relay, vendor, stranger });

/** The records that a domain's own leads to, for a failure that can be read. */
function reachable(zone: Zone, name = domain.name, seen: Record<string, string> = {}): Record<string, string> {
  if (seen[name] !== undefined || ours[name]) return seen;
  const { TXT = [] } = zone[name] ?? {};
  seen[name] = TXT.join(' | ');
  for (const [, next] of TXT.join(' ').matchAll(/(?:include:|redirect=)(\S+)/g)) reachable(zone, next, seen);
  return seen;
}

const answersOf = (zone: Zone): Answers => {
  const answers = new Answers();
  for (const name of [...names, ...Object.keys(ours), domain.name]) {
    const { TXT = [] } = zone[name] ?? {};
    const answer: Answer<TxtRr> =
      TXT.length > 0
        ? { kind: 'records', records: TXT, aliases: [] }
        : { kind: zone[name] ? 'nodata' : 'nxdomain', aliases: [] };
    answers.set('TXT', name, [answer]);
  }
  return answers;
};

/** What a look and its explanation say about SPF. */
function verdict(zone: Zone) {
  const answers = answersOf(zone);
  const assessment = judge(domain, answers, 'success');
  const { outcome, code, severity, warnings } = explain(domain, {
    answers,
    clues: answers,
    ses: null,
    assessment,
  }).find(({ check }) => check === 'spf')!;
  return {
    passes: outcome === 'pass',
    isBreaking: severity === 'breaking',
    code,
    warnings: warnings.map((warning) => warning.code),
  };
}

function published(zone: Zone) {
  const name = (txt: readonly string[]): PublishedName => ({
    exists: txt.length > 0,
    cname: null,
    txt,
    mx: [],
    ledTxt: null,
    ledMx: null,
  });
  return {
    names: new Map([[domain.name, name(zone[domain.name]?.TXT ?? [])]]),
    followed: answersOf(zone),
  };
}

function applied(zone: Zone, { values, replaces }: { values: readonly string[]; replaces: readonly string[] }): Zone {
  const kept = (zone[domain.name]?.TXT ?? []).filter((text) => !replaces.includes(text));
  return { ...zone, [domain.name]: { TXT: [...kept, ...values] } };
}

/** A zone in which records lead to each other. */
const names = Array.from({ length: 8 }, (_, i) => `t${i}.example.net`);
const target = weighted([8, names.join(' ')], [3, 'amazonses.com'], [3, 'sendmux.ai']);
const term = weighted(
  [8, joined(weighted([12, '∅'], [4, '+ - ~ ?']), anyOf('include:'), target)],
  [2, 'a:host.example.net mx:host.example.net -a:host.example.net a mx ptr'],
  [1, 'exists:none.example.net -exists:%{i}.example.net'],
  [2, 'ip4:203.0.113.0/24 -ip4:203.0.113.5 ~ip4:203.0.113.0/25 ip6:2001:db8::/32'],
  [1, 'ip4:0.0.0.0/0 -ip4:0.0.0.0/0 -ip6:::/0'],
  [3, weighted([6, '-all'], [6, '~all'], [3, '?all'], [1, 'all'], [1, '+all'])],
  [2, joined(anyOf('redirect='), target)],
  [1, 'exp=explain.example.net exists:%{i}.example.net foo=%{d}'],
);
/** Often ours is named too. */
const own = fc.tuple(record(term, 6), fc.nat(5), fc.nat(6)).map(([text, more, at]) => {
  const terms = text.split(' ');
  const added = [
    [],
    ['include:amazonses.com'],
    ['include:sendmux.ai'],
    ['include:amazonses.com', 'include:sendmux.ai'],
  ];
  terms.splice(1 + (at % terms.length), 0, ...(added[more] ?? added[3]!));
  return terms.join(' ');
});
const txtOf = (texts: fc.Arbitrary<string>) =>
  fc.oneof(
    { weight: 12, arbitrary: texts.map((text) => [text]) },
    { weight: 1, arbitrary: fc.constant(['v=verify']) },
    { weight: 1, arbitrary: texts.map((text) => [text, 'v=verify']) },
    { weight: 1, arbitrary: fc.tuple(texts, texts).map(([one, other]) => [one, other]) },
    { weight: 1, arbitrary: texts.map((text) => [`${text} inlcude:x.example.net`]) },
  );
const graph: fc.Arbitrary<Zone> = fc
  .tuple(txtOf(own), fc.array(fc.option(txtOf(record(term, 4)), { freq: 8 }), { minLength: 8, maxLength: 8 }))
  .map(([top, below]) => {
    const zone: Zone = { ...ours, [domain.name]: { TXT: top }, 'host.example.net': { A: ['198.51.100.7'] } };
    for (const [i, txt] of below.entries()) if (txt) zone[names[i]!] = { TXT: txt };
    return zone;
  });

/** Terms, right and wrong, from the productions of the grammar and what lies next to them. */
const domainSpec = fc.oneof(
  anyOf('x.org X.Org. _spf.x.org x-.y_z.org x ∅ . .x.org x..org x.org.. x.1 x.1a x.a1 x.a- x.-a x.a-b x.1-1 192.0.2.1'),
  anyOf('x,y.org x.org, x:y.org x.org:25 x/y.org x;y.org x@y.org'),
  anyOf('%{d} %{d}.org x.%{d2} %{i}._spf.%{d1r-} %{ir}.%{v}.x.org %{l1r+-}.x.org %{D} %{s} %{h}.x.org %{p}.x.org %{o}'),
  anyOf('%{d0} %{d01} %{d10r.-+,/_=} %{dr2} %{dR} %{z} %{c}.x.org x.%{r} %{t} %{} %{d %d % x.org%'),
  anyOf('%%.x.org %_.x.org %-.x.org x.%% %% x.%{d}x x.%{d}.1 %{d}. x!.%{d}.org %{d}:%{i}.org'),
);
const cidr = anyOf('∅ ∅ ∅ ∅ /0 /8 /32 /33 /032 /24//64 //64 //128 //129 //064 / // /a');
const address = fc.oneof(
  anyOf('192.0.2.1 192.0.2 192.0.2.256 192.0.02.1 0.0.0.0 192.0.2.1. 1.2.3.4.5 ∅ x.org'),
  anyOf('2001:db8::1 :: ::1 1::2::3 ::ffff:192.0.2.1 2001:db8:::1 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8'),
  anyOf('12345:: g:: 1:2:3:4:5:6:192.0.2.1 1:2:3:4:5:6:7:192.0.2.1 ::192.0.2.300 :1 1:'),
);
const anyTerm = fc.oneof(
  joined(
    anyOf('∅ ∅ ∅ + - ~ ? ! --'),
    anyOf('include a A mx ptr exists Include all ip4'),
    anyOf(': : : ∅ ::'),
    domainSpec,
    cidr,
  ),
  joined(anyOf('∅ -'), anyOf('ip4 ip6 IP4 ip ipv4'), anyOf(': : : = ∅'), address, cidr),
  joined(anyOf('∅ ∅ - ~ ? *'), anyOf('all ALL all. all; al all: all/8')),
  joined(anyOf('redirect exp foo f-o_o.x 1foo -foo'), anyOf('='), domainSpec),
  joined(anyOf('a mx ptr exists include all unknown ip4'), cidr),
  fc.string({ maxLength: 8, unit: 'grapheme-ascii' }),
);
