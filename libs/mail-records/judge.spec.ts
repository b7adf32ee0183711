import fc from 'fast-check';
import { answersOf, type Said } from '../../test/support/answers';
import { anyCharacter } from '../../test/support/characters';
import { sample } from '../../test/support/sample';
import type { Answer, Answers, MxRr, TxtRr } from './answers';
import type { DkimAnswer } from './check';
import { checkNames, type CheckName } from './checks';
import { spfQuestion } from './checks/spf/judge';
import { allPass, isUndecided, type Finding } from './findings';
import { answersInPlace } from './in-place';
import { followUps, judge } from './judge';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const records = <Rr>(...rrs: Rr[]): Answer<Rr> => ({ kind: 'records', records: rrs, aliases: [] });
const via = <Rr>(alias: string, ...rrs: Rr[]): Answer<Rr> => ({ kind: 'records', records: rrs, aliases: [alias] });
const nxdomain: Answer<never> = { kind: 'nxdomain', aliases: [] };
const nodata: Answer<never> = { kind: 'nodata', aliases: [] };
const servfail: Answer<never> = { kind: 'servfail' };
const unreachable: Answer<never> = { kind: 'unreachable', reason: 'timed out' };
const both = <Rr>(answer: Answer<Rr>): Answer<Rr>[] => [answer, answer];
const mx = (text: string): MxRr => {
  const [preference, exchange] = text.split(' ') as [string, string];
  return { preference: Number(preference), exchange: exchange === '.' ? '' : exchange };
};

const goodSpf = 'v=spf1 include:amazonses.com include:sendmux.ai ~all';
const look = (changed: Said, dkim: DkimAnswer = 'success') => judge(domain, answersOf(domain, changed), dkim);
const verdict = (check: CheckName, changed: Said, dkim?: DkimAnswer): Finding =>
  look(changed, dkim).findings.find((finding) => finding.check === check)!;

const outcomeOf = { pass: 'pass', fail: 'fail', undecided: 'indeterminate' } as const;
type Row<Rr> = [id: string, state: string, answer: Answer<Rr>, outcome: keyof typeof outcomeOf, code: string];

describe('everything in place', () => {
  it('G8 an ownership record that was left behind proves nothing while the rest is not there', () => {
    const elsewhere: Said = { mx: both(records(mx('10 mx.buyer.net'))), spf: both(nodata) };
    expect(verdict('verification_txt', elsewhere)).toMatchObject({ outcome: 'pass' });
    expect(allPass(look(elsewhere).findings)).toBe(false);
    expect(allPass(look({}, 'pending').findings)).toBe(false);
  });
  it('S all four pass and SES says success: verified', () => {
    const { findings, sesDkimStatus } = look({});
    expect(allPass(findings)).toBe(true);
    expect(findings.map(({ check }) => check)).toEqual([...checkNames]);
    expect(sesDkimStatus).toBe('success');
  });
});

describe('B ownership', () => {
  const txt = (...values: TxtRr[]) => records(...values);
  it.each<Row<TxtRr>>([
    ['B1', 'ours', txt('sendmux-verify=team_abc123'), 'pass', 'ok'],
    ['B2', 'NXDOMAIN', nxdomain, 'fail', 'txt_missing'],
    ['B3', 'NODATA', nodata, 'fail', 'txt_missing_nodata'],
    ['B4', 'ours and an unrelated one', txt('google-site-verification=x', 'sendmux-verify=team_abc123'), 'pass', 'ok'],
    ['B5', 'ours and another team’s', txt('sendmux-verify=team_zzz', 'sendmux-verify=team_abc123'), 'pass', 'ok'],
    ['B', 'no team at all', txt('sendmux-verify='), 'fail', 'txt_wrong_value'],
    ['B', 'a semicolon behind it', txt('sendmux-verify=team_abc123;'), 'fail', 'txt_wrong_value'],
    ['B8', 'upper case, and a space', txt('sendmux-verify=TEAM_ABC123 '), 'fail', 'txt_case'],
    ['B6', 'another team’s only', txt('sendmux-verify=team_zzz'), 'fail', 'txt_other_team'],
    ['B7', 'prefix lost', txt('team_abc123'), 'fail', 'txt_prefix_missing'],
    ['B8', 'upper case', txt('sendmux-verify=TEAM_ABC123'), 'fail', 'txt_case'],
    ['B9', 'trailing space', txt('sendmux-verify=team_abc123 '), 'fail', 'txt_whitespace'],
    ['B9', 'leading space', txt(' sendmux-verify=team_abc123'), 'fail', 'txt_whitespace'],
    ['B9', 'a space inside', txt('sendmux-verify= team_abc123'), 'fail', 'txt_whitespace'],
    ['B10', 'literal quotes', txt('"sendmux-verify=team_abc123"'), 'fail', 'txt_literal_quotes'],
    ['B10', 'single quotes', txt("'sendmux-verify=team_abc123'"), 'fail', 'txt_literal_quotes'],
    ['B10', 'escaped quotes', txt('\\"sendmux-verify=team_abc123\\"'), 'fail', 'txt_literal_quotes'],
    ['B10', 'a quote at one end', txt('sendmux-verify=team_abc123"'), 'fail', 'txt_literal_quotes'],
    ['B14', 'placed at the name with the zone appended, so nothing here', nxdomain, 'fail', 'txt_missing'],
    ['B18', 'through a CNAME', via('x.other.net', 'sendmux-verify=team_abc123'), 'fail', 'verification_via_cname'],
    ['B20', 'zero-width space', txt('sendmux-verify=\u00e2\u0080\u008bteam_abc123'), 'fail', 'invisible_characters'],
    ['B20', 'NBSP', txt('sendmux-verify=team_abc123\u00c2\u00a0'), 'fail', 'invisible_characters'],
    ['B', 'unrelated only', txt('hello'), 'fail', 'txt_wrong_value'],
  ])('%s %s', (_id, _state, answer, outcome, code) => {
    const finding = verdict('verification_txt', { verification: both(answer) });
    expect(finding).toMatchObject({ outcome: outcomeOf[outcome], code, name: '_sendmux.mail.acme.com', type: 'TXT' });
  });

  it.each([
    ['an escaped equals sign', 'sendmux-verify\\=team_abc123'],
    ['an equals sign as a number', 'sendmux-verify\\061team_abc123'],
    ['an escaped underscore', 'sendmux-verify=team\\_abc123'],
    ['a backslash behind it', 'sendmux-verify=team_abc123\\'],
  ])('M10: a backslash is named as the fault: %s', (_state, value) => {
    const { outcome, code, message } = verdict('verification_txt', { verification: both(txt(value)) });
    expect([outcome, code]).toEqual(['fail', 'txt_literal_quotes']);
    expect(message).toMatch(/backslash.*enter sendmux-verify=team_abc123 without the backslash/);
  });

  it('B6 never says which team', () => {
    expect(verdict('verification_txt', { verification: both(txt('sendmux-verify=team_zzz')) }).message).not.toContain(
      'zzz',
    );
  });
  it('B20 shows the bytes that cannot be seen', () => {
    const { observed } = verdict('verification_txt', { verification: both(txt('sendmux-verify=\u00a0team_abc123')) });
    expect(observed).toEqual(['sendmux-verify=\\160team_abc123']);
  });
  it('B24 G2 one resolver does not know it yet: propagating, not decided', () => {
    const finding = verdict('verification_txt', { verification: [nxdomain, txt('sendmux-verify=team_abc123')] });
    expect(finding).toMatchObject({ outcome: 'indeterminate', code: 'resolver_disagreement' });
  });
});

describe('C MX', () => {
  const set = (...values: string[]) => records(...values.map(mx));
  it.each<Row<MxRr>>([
    ['C1', '10 mail.sendmux.ai', set('10 mail.sendmux.ai'), 'pass', 'ok'],
    ['C3', 'none, NXDOMAIN', nxdomain, 'fail', 'mx_missing'],
    ['C3', 'none, NODATA', nodata, 'fail', 'mx_missing'],
    ['C4', 'none, but an address', nodata, 'fail', 'mx_missing'],
    ['C5', 'priority 20', set('20 mail.sendmux.ai'), 'fail', 'mx_wrong_priority'],
    ['C7', 'another provider', set('10 aspmx.l.google.com'), 'fail', 'mx_wrong_target'],
    ['C8', 'another one first', set('10 mail.sendmux.ai', '1 aspmx.l.google.com'), 'fail', 'mx_shadowed'],
    ['C9', 'another one beside', set('10 mail.sendmux.ai', '10 mx.other.net'), 'fail', 'mx_split'],
    ['C10', 'a foreign backup', set('10 mail.sendmux.ai', '20 backup.other.net'), 'pass', 'mx_foreign_backup'],
    ['C12', 'our own backup', set('10 mail.sendmux.ai', '20 mail.sendmux.ai'), 'pass', 'ok'],
    ['C13', 'null MX', set('0 .'), 'fail', 'mx_null'],
    ['C13', 'null MX beside ours', set('0 .', '10 mail.sendmux.ai'), 'fail', 'mx_null'],
    ['C10', 'no host behind ours', set('10 mail.sendmux.ai', '20 .'), 'pass', 'mx_foreign_backup'],
    ['C', 'nothing but no host', set('20 .'), 'fail', 'mx_null'],
    ['C16', 'an IPv6 address', set('10 2001:db8::1'), 'fail', 'mx_target_is_ip'],
    ['C7', 'a URL', set('10 https://mail.sendmux.ai'), 'fail', 'mx_wrong_target'],
    ['C7', 'a dot inside a label', set('10 mail\\.sendmux.ai'), 'fail', 'mx_wrong_target'],
    ['C16', 'an address', set('10 203.0.113.9'), 'fail', 'mx_target_is_ip'],
    ['C17', 'an alias of ours', set('10 mx.acme.com'), 'fail', 'mx_wrong_target'],
    ['C18', 'set on the parent, so nothing here', nxdomain, 'fail', 'mx_missing'],
    ['C19', 'a CNAME at the name', { kind: 'nodata', aliases: ['ghs.google.com'] }, 'fail', 'cname_at_name'],
    ['C22', 'a proxied host', set('10 mx.acme.com'), 'fail', 'mx_wrong_target'],
  ])('%s %s', (_id, _state, answer, outcome, code) => {
    const finding = verdict('mx', { mx: both(answer) });
    expect(finding).toMatchObject({ outcome: outcomeOf[outcome], code, expected: '10 mail.sendmux.ai', type: 'MX' });
  });

  it('C5 says which priority to set', () =>
    expect(verdict('mx', { mx: both(set('20 mail.sendmux.ai')) }).message).toContain('Check the priority is 10'));
  it('C7 names who receives now', () =>
    expect(verdict('mx', { mx: both(set('10 aspmx.l.google.com')) }).message).toContain(
      'Google Workspace is receiving now',
    ));
  it.each(['10 mail.sendmux.ai.mail.acme.com', '20 mail.sendmux.ai.acme.com'])(
    'M9: says that the provider has appended the zone, and what to type: %s',
    (value) => {
      const { outcome, code, message } = verdict('mx', { mx: both(set(value)) });
      expect([outcome, code]).toEqual(['fail', 'mx_wrong_target']);
      expect(message).toBe(
        `The MX of mail.acme.com points to ${value.slice(3)}: your DNS provider has appended the zone to the target. Enter mail.sendmux.ai. with the dot at its end, so that it stays mail.sendmux.ai.`,
      );
    },
  );
  it('M9: a name of somebody else that begins like ours is none of ours', () =>
    expect(verdict('mx', { mx: both(set('10 mail.sendmux.ai.evil.net')) }).message).not.toContain('appended'));
  it('C4 says that an address is not enough', () =>
    expect(verdict('mx', { mx: both(nodata) }).message).toContain('an address record does not stand in for one'));
  it('C17 C22 say that an alias or a proxy does not do', () =>
    expect(verdict('mx', { mx: both(set('10 mx.acme.com')) }).message).toContain('without an alias or a proxy'));
});

describe('D SPF', () => {
  const spf = (...values: TxtRr[]) => records(...values);
  const own = 'include:amazonses.com include:sendmux.ai';
  it.each<Row<TxtRr>>([
    ['D', 'as returned', spf(goodSpf), 'pass', 'ok'],
    ['D2', 'merged with another', spf(`v=spf1 ${own} include:_spf.google.com ~all`), 'pass', 'ok'],
    [
      'D3',
      'other order, others between',
      spf('v=spf1 include:sendmux.ai ip4:192.0.2.0/24 a mx:acme.com include:amazonses.com ~all'),
      'pass',
      'ok',
    ],
    ['D4', '-all', spf(`v=spf1 ${own} -all`), 'pass', 'ok'],
    ['D5', '?all', spf(`v=spf1 ${own} ?all`), 'pass', 'spf_permissive_all'],
    ['D5', '+all', spf(`v=spf1 ${own} +all`), 'pass', 'spf_permissive_all'],
    ['D5', 'no all', spf(`v=spf1 ${own}`), 'pass', 'spf_permissive_all'],
    ['D6', 'one include', spf('v=spf1 include:amazonses.com ~all'), 'fail', 'spf_include_missing'],
    ['D6', 'the other include', spf('v=spf1 include:sendmux.ai ~all'), 'fail', 'spf_include_missing'],
    ['D7', 'other TXT only', spf('google-site-verification=x'), 'fail', 'spf_missing'],
    ['D7', 'nothing', nodata, 'fail', 'spf_missing'],
    ['D8', 'two records', spf(goodSpf, 'v=spf1 include:_spf.google.com ~all'), 'fail', 'spf_multiple'],
    ['D9', 'two with ours in both', spf(goodSpf, `v=spf1 ${own} -all`), 'fail', 'spf_multiple'],
    ['D9', 'two of the same text, cut into other character-strings', spf(goodSpf, goodSpf), 'fail', 'spf_multiple'],
    ['D12', 'upper case', spf('V=SPF1 INCLUDE:AMAZONSES.COM include:Sendmux.AI ~ALL'), 'pass', 'ok'],
    ['D13', 'leading space', spf(` ${goodSpf}`), 'fail', 'spf_leading_whitespace'],
    ['D13', 'byte order mark', spf(`\u00ef\u00bb\u00bf${goodSpf}`), 'fail', 'spf_leading_whitespace'],
    [
      'D14',
      'double and trailing spaces',
      spf('v=spf1  include:amazonses.com   include:sendmux.ai ~all '),
      'pass',
      'ok',
    ],
    ['D15', 'TAB between terms', spf('v=spf1 include:amazonses.com\tinclude:sendmux.ai ~all'), 'fail', 'spf_syntax'],
    [
      'D16',
      'space after the colon',
      spf('v=spf1 include: amazonses.com include:sendmux.ai ~all'),
      'fail',
      'spf_syntax',
    ],
    ['D18', 'comma', spf('v=spf1 include:amazonses.com,include:sendmux.ai ~all'), 'fail', 'spf_syntax'],
    ['D19', '-include', spf('v=spf1 -include:amazonses.com include:sendmux.ai ~all'), 'fail', 'spf_include_qualifier'],
    [
      ...(['D19', '-include before the same include'] as const),
      ...([spf('v=spf1 -include:amazonses.com include:amazonses.com include:sendmux.ai ~all')] as const),
      ...(['fail', 'spf_include_qualifier'] as const),
    ],
    ['D19', '~include', spf('v=spf1 include:amazonses.com ~include:sendmux.ai ~all'), 'fail', 'spf_include_qualifier'],
    ['D19', '+include', spf('v=spf1 +include:amazonses.com include:sendmux.ai ~all'), 'pass', 'ok'],
    [
      'D21',
      'a name that begins with ours',
      spf('v=spf1 include:amazonses.com.evil.net include:sendmux.ai ~all'),
      'fail',
      'spf_include_missing',
    ],
    ['D22', 'trailing dot', spf('v=spf1 include:amazonses.com. include:sendmux.ai ~all'), 'pass', 'ok'],
    [
      'D23',
      'a regional host',
      spf('v=spf1 include:eu-west-1.amazonses.com include:sendmux.ai ~all'),
      'fail',
      'spf_include_missing',
    ],
    ['D29', 'a macro', spf('v=spf1 include:%{ir}.%{v}.%{d}.spf.has.pphosted.com ~all'), 'fail', 'spf_macro'],
    ['D32', 'unknown mechanism', spf(`v=spf1 ${own} foo:bar ~all`), 'fail', 'spf_syntax'],
    ['D32', 'unknown modifier', spf(`v=spf1 ${own} foo=bar ~all`), 'pass', 'ok'],
    ['D34', 'set on the parent, so nothing here', nxdomain, 'fail', 'spf_missing'],
    ['D36', 'a duplicate include', spf(`v=spf1 ${own} ${own} ~all`), 'pass', 'spf_duplicate_term'],
    ['D36', 'two all', spf(`v=spf1 ${own} ~all -all`), 'pass', 'spf_duplicate_term'],
    ['D', 'two networks of one name', spf(`v=spf1 ${own} a/24 a//64 ~all`), 'pass', 'ok'],
    ['D', 'after all', spf('v=spf1 ~all include:amazonses.com include:sendmux.ai'), 'fail', 'spf_include_after_all'],
    ['D', 'after every address', spf(`v=spf1 -ip4:0.0.0.0/0 -ip6:::/0 ${own} ~all`), 'fail', 'spf_include_after_all'],
    ['D', 'after all of IPv6', spf(`v=spf1 -ip6:::/0 ${own} ~all`), 'pass', 'ok'],
    ['D', 'after a network', spf(`v=spf1 -ip4:192.0.2.0/24 ${own} ~all`), 'pass', 'ok'],
    ['D5', 'every address', spf(`v=spf1 ${own} ip4:0.0.0.0/0 -all`), 'pass', 'spf_permissive_all'],
    ['D5', 'every address, first', spf(`v=spf1 +ip6:::/0 ${own} -all`), 'pass', 'spf_permissive_all'],
    ['D29', 'a macro to be redirected to', spf('v=spf1 redirect=%{d}._spf.example.net'), 'fail', 'spf_macro'],
    ['D13', 'literal quotes', spf(`"${goodSpf}"`), 'fail', 'txt_literal_quotes'],
    ['D13', 'escaped quotes', spf(`\\"${goodSpf}\\"`), 'fail', 'txt_literal_quotes'],
    ['D13', 'typographic quotes', spf(`\xe2\x80\x9c${goodSpf}\xe2\x80\x9d`), 'fail', 'invisible_characters'],
    ['D13', 'a zero-width space', spf(`\xe2\x80\x8b${goodSpf}`), 'fail', 'invisible_characters'],
    ['D15', 'TAB after the version', spf(`v=spf1\t${own} ~all`), 'fail', 'spf_syntax'],
    ['D18', 'a semicolon after the version', spf(`v=spf1; ${own} ~all`), 'fail', 'spf_syntax'],
    ['D16', 'nothing after the version', spf('v=spf1include:amazonses.com include:sendmux.ai'), 'fail', 'spf_syntax'],
    ['D', 'not this version', spf(`v=spf10 ${own} ~all`), 'fail', 'spf_missing'],
    ['D', 'two redirects', spf(`v=spf1 ${own} redirect=a.com redirect=b.com`), 'fail', 'spf_syntax'],
  ])('%s %s', (_id, _state, answer, outcome, code) => {
    const finding = verdict('spf', { spf: both(answer) });
    expect(finding).toMatchObject({ outcome: outcomeOf[outcome], code, name: 'mail.acme.com', expected: goodSpf });
  });

  it.each([
    'constructor:x.com',
    'ip4:999.1.1.1',
    'ip4:1.2.3',
    'ip4:01.2.3.4',
    'ip4:192.0.2.0/33',
    'ip6:::::',
    'ip6:1::2::3',
    'ip6:2001:db8::/129',
    'ip6:12345::',
    'a/33',
    'mx//129',
    'a:',
    'include',
    'include:localhost',
    'include:a..com',
    'include:a.com|b.com',
    'include:a+b.com',
    'exists:%{i}.x.com!',
    'include:.com',
    'include:a.123',
    'redirect=',
    'exists:%{x}.com',
    'exists:%{d0}.com',
    'all:x',
    'foo=%',
    'a=b=%{',
    '~',
    'a\u00e4',
  ])('D32 a term that the grammar has not: %s', (term) =>
    expect(verdict('spf', { spf: both(spf(`v=spf1 ${own} ${term} ~all`)) })).toMatchObject({
      outcome: 'fail',
      code: 'spf_syntax',
    }),
  );
  it.each([
    'ip4:192.0.2.0/24',
    'ip6:2001:db8::/32',
    'ip6:::',
    'ip6:::ffff:192.0.2.1',
    'ip6:1:2:3:4:5:6:7:8',
    'a/24//64',
    'mx:acme.com/24',
    'a:acme.com//64',
    'ptr',
    'exists:%{ir}.%{v}._spf.%{d2}',
    'exp=why.acme.com',
    'foo=%{i}%%x',
    'include:xn--mnchen-3ya.de',
    'include:_spf.a-b.co',
    'include:%{d}',
    '?a',
    'include:a.com.',
    'exists:a+b!%{i}.x.com',
    'exists:%{l}/%{i}.x.com',
  ])('D32 a term that the grammar has: %s', (term) =>
    expect(verdict('spf', { spf: both(spf(`v=spf1 ${own} ${term} ~all`)) })).toMatchObject({
      outcome: 'pass',
      code: 'ok',
    }),
  );
  it.each([
    'exists:%{c}.x.org',
    'exists:%{r}.x.org',
    'exists:%{t}.x.org',
    'exists:%{C}.x.org',
    'exists:%{i}.%{tr-}.x.org',
    'include:%{c2}.x.org',
    'a:%{r}.x.org/24',
    'mx:x.%{t}',
    'ptr:%{c}',
    // The text that it leads to may have them; the name of that text may not.
    'exp=%{r}.x.org',
  ])('M7: a macro that only the text of an explanation may have: %s', (term) =>
    expect(verdict('spf', { spf: both(spf(`v=spf1 ${own} ${term} -all`)) })).toMatchObject({
      outcome: 'fail',
      code: 'spf_syntax',
    }),
  );
  it.each(['x=%{c}', 'x=%{r}.%{t}', 'exists:%{ir}.%{v}.%{s}.%{l}.%{o}.%{d}.%{h}.%{p}.x.org'])(
    'M7: a macro in its place: %s',
    (term) => expect(verdict('spf', { spf: both(spf(`v=spf1 ${own} ${term} -all`)) })).toMatchObject({ code: 'ok' }),
  );
  it('M7: a redirect to such a name, and a record that leads to one', () => {
    expect(verdict('spf', { spf: both(spf('v=spf1 redirect=%{c}.x.org')) })).toMatchObject({ code: 'spf_syntax' });
    const spfTargets = new Map([['x.org', both(spf(`v=spf1 ${own} exists:%{t}.x.org -all`))]]);
    expect(verdict('spf', { spf: both(spf('v=spf1 include:x.org -all')), spfTargets })).toMatchObject({
      outcome: 'fail',
      code: 'spf_include_missing',
    });
  });
  it.each([
    ['before all', `v=spf1 ${own} \\~all`],
    ['behind the version', `v=spf1\\032${own} ~all`],
    ['before a space', `v=spf1 include:amazonses.com\\ include:sendmux.ai ~all`],
    ['before an equals sign', `v\\=spf1 ${own} ~all`],
  ])('M10: a backslash %s is named as the fault', (_place, text) => {
    const { code, message } = verdict('spf', { spf: both(spf(text)) });
    expect(code).toBe('spf_syntax');
    expect(message).toContain(`has a backslash in it`);
    expect(message).toContain(`enter ${goodSpf} without the backslash`);
  });
  it('D6 names the missing include and gives the merged record', () => {
    const { message } = verdict('spf', { spf: both(spf('v=spf1 include:sendmux.ai mx ~all')) });
    expect(message).toContain('lacks include:amazonses.com.');
    expect(message).toContain('v=spf1 include:amazonses.com include:sendmux.ai mx ~all');
  });
  it('D8 says to merge and to delete', () =>
    expect(verdict('spf', { spf: both(spf(goodSpf, goodSpf.replace('~', '-'))) }).message).toMatch(/Merge .* delete/));
  it('D8 gives the merged record, the same in whatever order the two come', () => {
    const google = 'v=spf1 include:_spf.google.com -all';
    const said = (...values: string[]) => verdict('spf', { spf: both(spf(...values)) }).message;
    expect(said(google, goodSpf)).toContain(
      'delete the others: v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com -all',
    );
    expect(said(google, goodSpf)).toBe(said(goodSpf, google));
  });
});

describe('D SPF through other records', () => {
  const spf = (...values: TxtRr[]) => both(records(...values));
  const at = (targets: Record<string, readonly Answer<TxtRr>[]>) => new Map(Object.entries(targets));
  const own = 'include:amazonses.com include:sendmux.ai';
  const elsewhere = (text: string, targets: Record<string, readonly Answer<TxtRr>[]> = {}) =>
    verdict('spf', { spf: spf(text), spfTargets: at(targets) });
  const chain = (length: number) =>
    Object.fromEntries(
      Array.from({ length }, (_, i) => [
        `n${i}.net`,
        spf(i === length - 1 ? `v=spf1 ${own} ~all` : `v=spf1 include:n${i + 1}.net ~all`),
      ]),
    );

  it.each<[string, string, string, Record<string, readonly Answer<TxtRr>[]>, keyof typeof outcomeOf, string]>([
    [
      ...(['D26', 'a redirect', 'v=spf1 redirect=_spf.acme.com'] as const),
      ...([{ '_spf.acme.com': spf(goodSpf) }, 'pass', 'spf_via_redirect'] as const),
    ],
    [
      ...(['D26', 'a redirect to one that lacks ours', 'v=spf1 redirect=_spf.acme.com'] as const),
      ...([{ '_spf.acme.com': spf('v=spf1 mx -all') }, 'fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D26', 'a redirect that nobody can look up', 'v=spf1 redirect=_spf.acme.com'] as const),
      ...([{ '_spf.acme.com': both<TxtRr>(unreachable) }, 'undecided', 'resolver_unreachable'] as const),
    ],
    [
      ...(['D26', 'a redirect that is propagating', 'v=spf1 redirect=_spf.acme.com'] as const),
      ...([{ '_spf.acme.com': [nxdomain, records(goodSpf)] }, 'undecided', 'resolver_disagreement'] as const),
    ],
    [
      ...(['D26', 'a redirect whose name servers fail', 'v=spf1 redirect=_spf.acme.com'] as const),
      ...([{ '_spf.acme.com': both<TxtRr>(servfail) }, 'fail', 'dns_servfail'] as const),
    ],
    [
      ...(['D26', 'a redirect beside all, which nobody reads', 'v=spf1 -all redirect=_spf.acme.com'] as const),
      ...([{ '_spf.acme.com': spf(goodSpf) }, 'fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D', 'an include of what no DNS name can be', `v=spf1 include:${'a'.repeat(64)}.com ~all`] as const),
      ...([{}, 'fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D27', 'a nested include', 'v=spf1 include:_spf.acme.com ~all'] as const),
      ...([{ '_spf.acme.com': spf(goodSpf) }, 'pass', 'spf_via_redirect'] as const),
    ],
    [
      ...([
        'D27',
        'one of ours nested, the other here',
        'v=spf1 include:sendmux.ai include:_spf.acme.com ~all',
      ] as const),
      ...([{ '_spf.acme.com': spf('v=spf1 include:amazonses.com ~all') }, 'pass', 'spf_via_redirect'] as const),
    ],
    [
      ...(['D27', 'nested with a qualifier that does not pass', 'v=spf1 ~include:_spf.acme.com ~all'] as const),
      ...([{ '_spf.acme.com': spf(goodSpf) }, 'fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D27', 'nested in one of two records', 'v=spf1 include:_spf.acme.com ~all'] as const),
      ...([{ '_spf.acme.com': spf(goodSpf, goodSpf) }, 'fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D27', 'nested behind all', 'v=spf1 include:_spf.acme.com ~all'] as const),
      ...([{ '_spf.acme.com': spf(`v=spf1 -all ${own}`) }, 'fail', 'spf_include_missing'] as const),
    ],
    [
      ...([
        'D27',
        'another include that nobody can look up',
        'v=spf1 include:x.net include:_spf.acme.com ~all',
      ] as const),
      ...([{ 'x.net': both<TxtRr>(unreachable), '_spf.acme.com': spf(goodSpf) }, 'pass', 'spf_via_redirect'] as const),
    ],
    [
      ...([
        'D27',
        'nested, behind a -include of ours',
        'v=spf1 -include:amazonses.com include:_spf.acme.com ~all',
      ] as const),
      ...([{ '_spf.acme.com': spf(goodSpf) }, 'fail', 'spf_include_qualifier'] as const),
    ],
    ...(
      [
        ['without an SPF record', spf('hello')],
        ['that cannot be read', spf('v=spf1 foo:bar')],
        ['that does not exist', both<TxtRr>(nxdomain)],
      ] as const
    ).map(([what, found]): [string, string, string, Record<string, readonly Answer<TxtRr>[]>, 'fail', string] => [
      ...(['D27', `nested, behind a name ${what}`, 'v=spf1 include:x.net include:_spf.acme.com ~all'] as const),
      ...([{ 'x.net': found, '_spf.acme.com': spf(goodSpf) }, 'fail', 'spf_include_missing'] as const),
    ]),
    [
      ...(['D27', 'nested, behind a -include of ours beside it', 'v=spf1 include:_s.acme.com -all'] as const),
      ...([{ '_s.acme.com': spf(`v=spf1 -include:amazonses.com ${own} -all`) }] as const),
      ...(['fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D26', 'a redirect to one that turns ours away first', 'v=spf1 redirect=_s.acme.com'] as const),
      ...([{ '_s.acme.com': spf(`v=spf1 ?include:amazonses.com ${own} -all`) }] as const),
      ...(['fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D27', 'nested, behind a -include that leads to ours', 'v=spf1 -include:a.net include:b.net -all'] as const),
      ...([{ 'a.net': spf(goodSpf), 'b.net': spf(goodSpf) }, 'fail', 'spf_include_missing'] as const),
    ],
    [
      ...([
        'D27',
        'nested, behind an include that turns ours away for itself',
        'v=spf1 include:a.net include:b.net',
      ] as const),
      ...([{ 'a.net': spf(`v=spf1 -include:amazonses.com -all`), 'b.net': spf(goodSpf) }] as const),
      ...(['pass', 'spf_via_redirect'] as const),
    ],
    [
      ...(['D27', 'nested, behind a broken one beside it', 'v=spf1 include:a.net -all'] as const),
      ...([{ 'a.net': spf(`v=spf1 include:x.net ${own} -all`), 'x.net': both<TxtRr>(nxdomain) }] as const),
      ...(['fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D27', 'one nested, the other here, behind a broken one'] as const),
      'v=spf1 include:b.net include:x.net include:amazonses.com',
      { 'b.net': spf('v=spf1 include:sendmux.ai'), 'x.net': both<TxtRr>(nxdomain) },
      ...(['fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D27', 'one nested, the other here, behind a ?include that leads to it'] as const),
      'v=spf1 ?include:b.net include:amazonses.com include:c.net',
      { 'b.net': spf('v=spf1 include:amazonses.com'), 'c.net': spf('v=spf1 include:sendmux.ai') },
      ...(['fail', 'spf_include_qualifier'] as const),
    ],
    [
      ...(['D27', 'behind a broken one, what receivers never ask for'] as const),
      'v=spf1 include:x.net include:y.net a a a a a a a a a -all',
      { 'x.net': both<TxtRr>(nxdomain) },
      ...(['fail', 'spf_include_missing'] as const),
    ],
    [
      ...(['D27', 'nested, before a broken one', 'v=spf1 include:a.net include:x.net -all'] as const),
      ...([{ 'a.net': spf(goodSpf), 'x.net': both<TxtRr>(nxdomain) }, 'pass', 'spf_via_redirect'] as const),
    ],
    ['D27', 'ours as the tenth look-up', 'v=spf1 include:n0.net ~all', chain(8), 'pass', 'spf_via_redirect'],
    ['D30', 'ours beyond the tenth look-up', 'v=spf1 include:n0.net ~all', chain(10), 'fail', 'spf_too_many_lookups'],
    [
      ...(['D27', 'a loop', 'v=spf1 include:a.net ~all'] as const),
      ...([{ 'a.net': spf('v=spf1 include:a.net ~all') }, 'fail', 'spf_too_many_lookups'] as const),
    ],
    ['D27', 'where nobody has asked', 'v=spf1 include:_spf.acme.com ~all', {}, 'fail', 'spf_include_missing'],
  ])('%s %s', (_id, _state, text, targets, outcome, code) =>
    expect(elsewhere(text, targets)).toMatchObject({ outcome: outcomeOf[outcome], code }),
  );

  it('D27 names the include that receivers stop at', () => {
    const targets = { 'a.net': spf(`v=spf1 include:x.net ${own} -all`), 'x.net': both<TxtRr>(nxdomain) };
    expect(elsewhere('v=spf1 include:a.net -all', targets).message).toContain('leads to x.net');
  });
  it('D26 says who authorises us', () =>
    expect(elsewhere('v=spf1 redirect=_spf.acme.com', { '_spf.acme.com': spf(goodSpf) }).message).toContain(
      'authorises us through _spf.acme.com',
    ));

  it('asks for what the record leads to, in the order of a receiver, and only when it lacks ours itself', () => {
    const ask = (text: string, targets: Record<string, readonly Answer<TxtRr>[]> = {}) =>
      spfQuestion(domain, answersOf(domain, { spf: spf(text), spfTargets: at(targets) }));
    expect(ask(goodSpf)).toBeUndefined();
    expect(ask(`v=spf1 ${own} include:_spf.google.com ~all`)).toBeUndefined();
    const text = 'v=spf1 include:a.net include:%{d}.b.net include:amazonses.com redirect=c.net';
    expect(ask(text)).toBe('a.net');
    const empty = spf('v=spf1 -all');
    expect(ask(text, { 'a.net': empty })).toBe('c.net');
    expect(ask(text, { 'a.net': empty, 'c.net': both(unreachable) })).toBeUndefined();
    expect(ask(text, { 'a.net': both(nxdomain) })).toBeUndefined();
    expect(ask('v=spf1 include:a.net ~all', { 'a.net': spf('v=spf1 redirect=b.net') })).toBe('b.net');
    expect(ask('v=spf1 include:a.net ~all', { 'a.net': spf(goodSpf) })).toBeUndefined();
    const behind = { 'a.net': spf(`v=spf1 include:x.net ${own} -all`) };
    expect(ask('v=spf1 include:a.net include:y.net', behind)).toBe('x.net');
    expect(ask('v=spf1 include:a.net include:y.net', { ...behind, 'x.net': spf('v=spf1 -all') })).toBeUndefined();
    expect(ask('v=spf1 foo:bar redirect=c.net')).toBeUndefined();
    expect(
      spfQuestion(domain, answersOf(domain, { spf: spf('v=spf1 include:a.net', 'v=spf1 include:b.net') })),
    ).toBeUndefined();
    expect(spfQuestion(domain, answersOf(domain, { spf: both(unreachable) }))).toBeUndefined();
    expect(
      spfQuestion(domain, answersOf(domain, { spf: [records('v=spf1 include:a.net'), nxdomain] })),
    ).toBeUndefined();
  });

  it('never asks for more than ten names, whatever they say', () => {
    const names = fc.constantFrom(...Array.from({ length: 30 }, (_, i) => `n${i}.net`));
    const term = fc.oneof(
      names.map((name) => `include:${name}`),
      names.map((name) => `redirect=${name}`),
      fc.constantFrom('mx', 'a', '-all', 'include:sendmux.ai'),
    );
    const record = fc.array(term, { maxLength: 6 }).map((terms) => ['v=spf1', ...terms].join(' '));
    fc.assert(
      fc.property(fc.func(record), record, (recordAt, text) => {
        const targets = new Map<string, readonly Answer<TxtRr>[]>();
        for (;;) {
          const name = spfQuestion(domain, answersOf(domain, { spf: spf(text), spfTargets: targets }));
          if (name === undefined || targets.size > 10) break;
          targets.set(name, spf(recordAt(name)));
        }
        return targets.size <= 10;
      }),
    );
  });
});

describe('E DMARC', () => {
  const dmarc = (...values: TxtRr[]) => records(...values);
  const full = 'v=DMARC1; p=quarantine; rua=mailto:d@acme.com; pct=100; adkim=s';
  it.each<Row<TxtRr>>([
    ['E1', 'as returned', dmarc('v=DMARC1; p=quarantine'), 'pass', 'ok'],
    ['E2', 'added tags', dmarc(full), 'pass', 'ok'],
    ['E3', 'free spacing', dmarc('v=DMARC1;p=quarantine;'), 'pass', 'ok'],
    ['E4', 'p=reject', dmarc('v=DMARC1; p=reject'), 'pass', 'ok'],
    ['E5', 'p=none', dmarc('v=DMARC1; p=none'), 'fail', 'dmarc_policy_too_weak'],
    ['E6', 'no policy', dmarc('v=DMARC1; rua=mailto:x@acme.com'), 'fail', 'dmarc_policy_missing'],
    [
      'E7',
      'policy not second',
      dmarc('v=DMARC1; rua=mailto:x@acme.com; p=quarantine'),
      'pass',
      'dmarc_policy_not_second',
    ],
    ['E9', 'upper case', dmarc('V=DMARC1; P=Quarantine'), 'pass', 'ok'],
    ['E11', 'no semicolon', dmarc('v=DMARC1 p=quarantine'), 'fail', 'dmarc_missing_semicolon'],
    ['E11', 'commas', dmarc('v=DMARC1, p=quarantine'), 'fail', 'dmarc_missing_semicolon'],
    ['E11', 'a colon', dmarc('v=DMARC1: p=quarantine'), 'fail', 'dmarc_missing_semicolon'],
    ['E11', 'escaped semicolons', dmarc('v=DMARC1\\; p=quarantine'), 'fail', 'dmarc_missing_semicolon'],
    ['E13', 'literal quotes', dmarc('"v=DMARC1; p=quarantine"'), 'fail', 'txt_literal_quotes'],
    ['E13', 'escaped quotes', dmarc('\\"v=DMARC1; p=quarantine\\"'), 'fail', 'txt_literal_quotes'],
    ['E13', 'typographic quotes', dmarc('\xe2\x80\x9cv=DMARC1; p=reject\xe2\x80\x9d'), 'fail', 'invisible_characters'],
    ['E', 'a byte order mark', dmarc('\xef\xbb\xbfv=DMARC1; p=quarantine'), 'fail', 'invisible_characters'],
    ['E14', 'two records', dmarc('v=DMARC1; p=quarantine', 'v=DMARC1; p=reject'), 'fail', 'dmarc_multiple'],
    ['E14', 'two of the same text', dmarc('v=DMARC1; p=reject', 'v=DMARC1; p=reject'), 'fail', 'dmarc_multiple'],
    ['E15', 'an unrelated one beside', dmarc('google-site-verification=x', 'v=DMARC1; p=quarantine'), 'pass', 'ok'],
    ['E16', 'pct=0', dmarc('v=DMARC1; p=quarantine; pct=0'), 'pass', 'dmarc_pct_partial'],
    ['E16', 'pct=50', dmarc('v=DMARC1; p=quarantine; pct=50'), 'pass', 'dmarc_pct_partial'],
    ['E16', 'a pct that is none', dmarc('v=DMARC1; p=quarantine; pct=all'), 'pass', 'ok'],
    ['E16', 'pct=100', dmarc('v=DMARC1; p=quarantine; pct=100'), 'pass', 'ok'],
    ['E17', 't=y', dmarc('v=DMARC1; p=quarantine; t=y'), 'pass', 'dmarc_testing_mode'],
    ['E18', 'sp=none', dmarc('v=DMARC1; p=quarantine; sp=none'), 'pass', 'dmarc_subdomains_free'],
    ['E20', 'an unknown policy', dmarc('v=DMARC1; p=quarantined'), 'fail', 'dmarc_policy_unknown'],
    ['E20', 'white space around =', dmarc('v=DMARC1; p = quarantine '), 'pass', 'ok'],
    ['E21', 'an unknown tag', dmarc('v=DMARC1; p=quarantine; foo=bar'), 'pass', 'ok'],
    ['E22', 'through a CNAME', via('x.dmarcvendor.net', full), 'pass', 'dmarc_via_cname'],
    ['E24', 'placed at the name with the zone appended, so nothing here', nxdomain, 'fail', 'dmarc_missing'],
    ['E23', 'a policy on the parent only, so nothing here', nxdomain, 'fail', 'dmarc_missing'],
    ['E', 'a version in lower case', dmarc('v=dmarc1; p=quarantine'), 'fail', 'dmarc_version_case'],
    ['E', 'a leading space', dmarc(' v=DMARC1; p=quarantine'), 'fail', 'txt_whitespace'],
    ['E', 'two policies', dmarc('v=DMARC1; p=quarantine; p=none'), 'fail', 'dmarc_duplicate_tag'],
    ['E', 'another version', dmarc('v=DMARC10; p=quarantine'), 'fail', 'dmarc_missing'],
  ])('%s %s', (_id, _state, answer, outcome, code) => {
    const finding = verdict('dmarc', { dmarc: both(answer) });
    expect(finding).toMatchObject({ outcome: outcomeOf[outcome], code, name: '_dmarc.mail.acme.com' });
  });

  it.each([
    ['white space', 'v=DMARC1; p=none rua=mailto:d@acme.com'],
    ['a space', 'v=DMARC1; p=quarantine pct=100'],
    ['a TAB', 'v=DMARC1;\tp=quarantine\tpct=100'],
    ['a comma', 'v=DMARC1; p=reject, rua=mailto:d@acme.com'],
    ['a colon', 'v=DMARC1; p=reject:pct=50'],
    ['nothing', 'v=DMARC1p=reject'],
    ['a space before the policy', 'v=DMARC1; rua=mailto:d@acme.com p=reject'],
    ['a space behind the policy of subdomains', 'v=DMARC1; p=reject; sp=none rua=mailto:d@acme.com'],
  ])('M4: %s in the place of a semicolon', (_mark, text) =>
    expect(verdict('dmarc', { dmarc: both(dmarc(text)) })).toMatchObject({
      outcome: 'fail',
      code: 'dmarc_missing_semicolon',
      message: expect.stringContaining('separated by semicolons') as string,
    }),
  );

  it.each([
    ['sp', 'v=DMARC1; p=reject; sp=quarantin'],
    ['sp', 'v=DMARC1; p=reject; sp='],
    ['np', 'v=DMARC1; p=quarantine; np=x'],
    ['np', 'v=DMARC1; p=quarantine; sp=none; np=nil'],
  ])('M5: an %s= that nobody knows makes it a record without a policy: %s', (tag, text) => {
    const finding = verdict('dmarc', { dmarc: both(dmarc(text)) });
    expect(finding).toMatchObject({ outcome: 'fail', code: 'dmarc_policy_unknown' });
    expect(finding.message).toMatch(new RegExp(`^${tag}=.*RFC 7489 section 6\\.6\\.3.*take ${tag}= out`));
  });
  it('M5: the policies for subdomains are known in any case', () =>
    expect(verdict('dmarc', { dmarc: both(dmarc('v=DMARC1; p=reject; sp=Reject; np=NONE')) })).toMatchObject({
      outcome: 'pass',
      code: 'ok',
    }));

  it.each([
    ['between the tags', 'v=DMARC1\\; p=quarantine', 'dmarc_missing_semicolon'],
    ['as a number', 'v=DMARC1\\059 p=quarantine', 'dmarc_missing_semicolon'],
    ['behind the policy', 'v=DMARC1; p=quarantine\\; rua=mailto:d@acme.com', 'dmarc_missing_semicolon'],
    ['behind the policy of subdomains', 'v=DMARC1; p=reject; sp=none\\;', 'dmarc_missing_semicolon'],
    ['before an equals sign', 'v\\=DMARC1\\; p\\=reject', 'dmarc_missing_semicolon'],
  ])('M10: a backslash %s is named as the fault', (_place, text, code) => {
    const finding = verdict('dmarc', { dmarc: both(dmarc(text)) });
    expect(finding).toMatchObject({ outcome: 'fail', code });
    expect(finding.message).toMatch(/has a backslash in it.*without the backslash/);
    expect(finding.message).not.toContain('semicolon');
  });
  it('M10: quotes around a tag are named as the fault', () =>
    expect(verdict('dmarc', { dmarc: both(dmarc('v=DMARC1; "p=quarantine"')) })).toMatchObject({
      code: 'txt_literal_quotes',
    }));
});

describe('F DKIM is the word of SES alone', () => {
  it.each<[string, DkimAnswer, Finding['outcome'], string]>([
    ['F1', 'pending', 'fail', 'dkim_pending'],
    ['F2', 'success', 'pass', 'ok'],
    ['F5', 'failed', 'fail', 'dkim_failed'],
    ['F6', 'temporary_failure', 'indeterminate', 'dkim_temporary_failure'],
    ['F7', 'not_started', 'fail', 'dkim_not_started'],
    ['F8', 'unavailable', 'indeterminate', 'ses_unavailable'],
    ['F9', 'identity_missing', 'indeterminate', 'ses_identity_missing'],
  ])('%s %s', (_id, answer, outcome, code) =>
    expect(verdict('dkim', {}, answer)).toMatchObject({ outcome, code, type: 'CNAME' }),
  );

  it('F3 success, and one check fails: not all pass', () => {
    const { findings, sesDkimStatus } = look({ spf: both(nodata) });
    expect(allPass(findings)).toBe(false);
    expect(sesDkimStatus).toBe('success');
  });
  it('F6 is an answer, though it decides nothing; F8 is none', () => {
    expect(isUndecided(look({}, 'temporary_failure'))).toBe(false);
    expect(isUndecided(look({}, 'unavailable'))).toBe(true);
    expect(look({}, 'unavailable').sesDkimStatus).toBeNull();
  });
  it('F10 F12 names the three records and their targets, without a look-up', () => {
    expect(verdict('dkim', {}, 'pending').expected).toBe(
      [1, 2, 3].map((n) => `token${n}._domainkey.mail.acme.com CNAME token${n}.dkim.amazonses.com`).join('; '),
    );
  });
});

describe('G DNSSEC', () => {
  const signed = (authenticated: boolean) => answersInPlace(domain, 2, { authenticated });
  const judged = (answers: Answers) => judge(domain, answers, 'success');
  it('G3 every resolver has validated every answer: secure', () => expect(judged(signed(true)).dnssec).toBe('secure'));
  it('G5 an unsigned zone passes all the same', () => {
    expect(judged(signed(false))).toMatchObject({ dnssec: 'insecure' });
    expect(allPass(judged(signed(false)).findings)).toBe(true);
  });
  it('G3 what one of them has not validated is not secure', () => {
    const unsigned = signed(false).where(({ type, name }) => type === 'MX' && name === domain.name);
    expect(judged(signed(true).with(unsigned)).dnssec).toBe('insecure');
  });
  it('is not told where a resolver does not tell it', () => expect(look({})).not.toHaveProperty('dnssec'));

  const bogus: Answer<never> = { kind: 'servfail', evidence: { bogus: true } };
  it('G4 both resolvers refuse because the signatures do not validate: definite, and said', () => {
    const finding = verdict('mx', { mx: both(bogus) });
    expect(finding).toMatchObject({ outcome: 'fail', code: 'dnssec_bogus' });
    expect(look({ mx: both(bogus) }).dnssec).toBe('bogus');
    expect(finding.message).toContain('The DNSSEC signatures of mail.acme.com do not validate');
  });
  it('G4 one resolver validates, and the other does not: the answer counts', () => {
    const ours = records(mx('10 mail.sendmux.ai'));
    expect(verdict('mx', { mx: [bogus, ours] })).toMatchObject({ outcome: 'pass' });
    expect(verdict('mx', { mx: [bogus, unreachable] })).toMatchObject({ outcome: 'indeterminate' });
  });
});

describe('a look-up that failed is not a record that is missing', () => {
  const check = (...answers: Answer<MxRr>[]) => verdict('mx', { mx: answers });
  const ours = records(mx('10 mail.sendmux.ai'));
  it('H10 no resolver answers: nobody can tell, and nothing is decided', () => {
    expect(check(unreachable, unreachable)).toMatchObject({ outcome: 'indeterminate', code: 'resolver_unreachable' });
    expect(isUndecided(look({ mx: both(unreachable) }))).toBe(true);
  });
  it('H12 both say SERVFAIL: the customer’s DNS provider fails', () =>
    expect(check(servfail, servfail)).toMatchObject({ outcome: 'fail', code: 'dns_servfail' }));
  it('both say SERVFAIL, and one shows the loop of CNAMEs that it failed at', () => {
    const loop = ['a.acme.com', 'b.acme.com'];
    const found = check(servfail, { kind: 'servfail', loop });
    expect(found).toMatchObject({ outcome: 'fail', code: 'cname_loop' });
    expect(found.message).toContain('a.acme.com → b.acme.com → a.acme.com');
    expect(check({ kind: 'servfail', loop }, ours)).toMatchObject({ outcome: 'pass' });
    expect(check({ kind: 'servfail', loop })).toMatchObject({ outcome: 'indeterminate' });
  });
  it('H13 one says SERVFAIL: the other decides', () => {
    expect(check(servfail, ours)).toMatchObject({ outcome: 'pass' });
    expect(check(nxdomain, servfail)).toMatchObject({ outcome: 'fail', code: 'mx_missing' });
  });
  it('SERVFAIL by the only resolver, or beside one that is gone, decides nothing', () => {
    expect(check(servfail)).toMatchObject({ outcome: 'indeterminate' });
    expect(check(servfail, unreachable)).toMatchObject({ outcome: 'indeterminate' });
  });
  it('one is gone: the other decides', () => expect(check(unreachable, ours)).toMatchObject({ outcome: 'pass' }));
  it('they disagree: an answer that decides nothing', () => {
    expect(check(nxdomain, ours)).toMatchObject({ outcome: 'indeterminate', code: 'resolver_disagreement' });
    expect(isUndecided(look({ mx: [nxdomain, ours] }))).toBe(false);
  });
  it('NXDOMAIN and NODATA mean the same', () => expect(check(nxdomain, nodata)).toMatchObject({ code: 'mx_missing' }));
  it('a definite fail elsewhere is decided beside one that is not', () => {
    const assessment = look({ mx: both(unreachable), spf: both(nodata) });
    expect(isUndecided(assessment)).toBe(false);
  });
  it('the order of resolvers and of records changes nothing', () => {
    const exchange = fc.constantFrom('mail.sendmux.ai', 'a.net', 'b.net', '203.0.113.9', '203.0.113.10', '');
    const rr = fc.record({ preference: fc.constantFrom(0, 5, 9, 10, 20, 100), exchange });
    fc.assert(
      fc.property(fc.uniqueArray(rr, { minLength: 1, selector: (r) => JSON.stringify(r) }), (rrs) => {
        const [one, other] = [records(...rrs), records(...[...rrs].reverse())];
        expect(check(one, other)).toEqual(check(other, one));
        expect(check(one, other)).toEqual(check(one));
      }),
    );
  });
  it('B4 D7 an unrelated record that one resolver does not know yet changes nothing', () => {
    const known = records(goodSpf);
    const more = records('google-site-verification=x', goodSpf);
    expect(verdict('spf', { spf: [known, more] })).toMatchObject({ outcome: 'pass', code: 'ok' });
    expect(verdict('spf', { spf: [records('x'), more] })).toMatchObject({ code: 'resolver_disagreement' });
  });
  it('a pass and a pass with a warning are no disagreement', () =>
    expect(
      verdict('mx', { mx: [records(mx('10 mail.sendmux.ai')), records(mx('10 mail.sendmux.ai'), mx('20 a.net'))] }),
    ).toMatchObject({ outcome: 'pass' }));
  it('two fails that are not the same are a disagreement', () =>
    expect(check(records(mx('0 .')), nxdomain)).toMatchObject({ code: 'resolver_disagreement' }));
});

describe('MAIL FROM', () => {
  const at = 'bounce.mail.acme.com';
  const host = 'feedback-smtp.eu-west-1.amazonses.com';
  const found = (check: CheckName, type: 'MX' | 'TXT', answer: Answer<MxRr> | Answer<TxtRr>, more?: Answers) => {
    const answers = answersInPlace(domain).set(type, at, both(answer as Answer<never>));
    return judge(domain, more ? answers.with(more) : answers, 'success').findings.find((each) => each.check === check)!;
  };

  it.each<Row<MxRr>>([
    ['', 'ours', records(mx(`10 ${host}`)), 'pass', 'ok'],
    ['', 'NXDOMAIN', nxdomain, 'fail', 'mail_from_mx_missing'],
    ['', 'NODATA', nodata, 'fail', 'mail_from_mx_missing'],
    [
      '',
      'the Region of somebody else',
      records(mx('10 feedback-smtp.us-east-1.amazonses.com')),
      'fail',
      'mail_from_mx_wrong_target',
    ],
    ['', 'Sendmux’s own host', records(mx('10 mail.sendmux.ai')), 'fail', 'mail_from_mx_wrong_target'],
    ['', 'the zone appended', records(mx(`10 ${host}.mail.acme.com`)), 'fail', 'mail_from_mx_wrong_target'],
    ['', 'a null MX', records(mx('0 .')), 'fail', 'mail_from_mx_wrong_target'],
    ['', 'another priority', records(mx(`20 ${host}`)), 'fail', 'mail_from_mx_wrong_priority'],
    ['', 'one beside it', records(mx(`10 ${host}`), mx('20 mx.other.net')), 'fail', 'mail_from_mx_several'],
    ['', 'the same one twice', records(mx(`10 ${host}`), mx(`10 ${host}`)), 'pass', 'ok'],
    ['', 'a CNAME to where it is right', via('x.other.net', mx(`10 ${host}`)), 'fail', 'cname_at_name'],
    ['', 'SERVFAIL', servfail, 'fail', 'dns_servfail'],
    ['', 'no answer', unreachable, 'undecided', 'resolver_unreachable'],
  ])('%sMX: %s', (_id, _state, answer, outcome, code) =>
    expect(found('mail_from_mx', 'MX', answer)).toMatchObject({ outcome: outcomeOf[outcome], code, name: at }),
  );

  it.each<Row<TxtRr>>([
    ['', 'ours', records('v=spf1 include:amazonses.com ~all'), 'pass', 'ok'],
    ['', 'ours among others', records('hello', 'v=spf1 include:amazonses.com -all'), 'pass', 'ok'],
    ['', 'that of the domain itself', records(goodSpf), 'pass', 'ok'],
    ['', 'NXDOMAIN', nxdomain, 'fail', 'mail_from_spf_missing'],
    ['', 'another TXT record', records('hello'), 'fail', 'mail_from_spf_missing'],
    ['', 'Sendmux alone', records('v=spf1 include:sendmux.ai ~all'), 'undecided', 'resolver_unreachable'],
    ['', 'nobody', records('v=spf1 -all'), 'fail', 'mail_from_spf_include_missing'],
    ['', 'ours behind all', records('v=spf1 -all include:amazonses.com'), 'fail', 'mail_from_spf_include_missing'],
    ['', 'not ours', records('v=spf1 -include:amazonses.com ~all'), 'fail', 'mail_from_spf_include_missing'],
    ['', 'two', records('v=spf1 include:amazonses.com ~all', 'v=spf1 mx -all'), 'fail', 'mail_from_spf_multiple'],
    ['', 'a term of no grammar', records('v=spf1 inclde:amazonses.com ~all'), 'fail', 'mail_from_spf_syntax'],
    ['', 'a CNAME', via('x.other.net', 'v=spf1 include:amazonses.com ~all'), 'fail', 'cname_at_name'],
    ['', 'SERVFAIL', servfail, 'fail', 'dns_servfail'],
  ])('%sSPF: %s', (_id, state, answer, outcome, code) => {
    const silent = answersInPlace(domain)
      .where(() => false)
      .set('TXT', 'sendmux.ai', both<TxtRr>(unreachable));
    const { outcome: was, code: said } = found('mail_from_spf', 'TXT', answer, silent);
    expect([state, was, said]).toEqual([state, outcomeOf[outcome], code]);
  });

  it('SPF by way of another record is followed there', () => {
    const led = answersInPlace(domain).set('TXT', at, both(records('v=spf1 redirect=_spf.acme.com')));
    expect(followUps(domain, led)).toEqual([{ type: 'TXT', name: '_spf.acme.com' }]);
    const known = led.set('TXT', '_spf.acme.com', both(records('v=spf1 include:amazonses.com ~all')));
    expect(followUps(domain, known)).toEqual([]);
    expect(judge(domain, known, 'success').findings.at(-1)).toMatchObject({ outcome: 'pass' });
  });

  it('decides nothing, whatever it finds, unless it is required', () => {
    const none = answersInPlace(domain).set('MX', at, both(nxdomain)).set('TXT', at, both(nxdomain));
    const free = judge(domain, none, 'success');
    expect(free.findings.filter(({ outcome }) => outcome === 'fail').map(({ decides }) => decides)).toEqual([
      false,
      false,
    ]);
    expect(allPass(free.findings)).toBe(true);
    const required = judge(domain, none, 'success', ['mail_from']);
    expect(allPass(required.findings)).toBe(false);
  });

  it('that cannot be looked up leaves the rest decided', () => {
    const none = answersInPlace(domain).set('MX', at, both(unreachable));
    expect(isUndecided(judge(domain, none, 'success'))).toBe(false);
    expect(isUndecided(judge(domain, none, 'success', ['mail_from']))).toBe(true);
  });
});

describe('whatever the customer writes', () => {
  const ours = ['include:amazonses.com', 'include:sendmux.ai'];
  const others = fc.subarray([
    'a',
    'mx',
    'ip4:192.0.2.1',
    'ip6:2001:db8::1',
    'include:_spf.google.com',
    'exists:%{i}.x.net',
    'x=y',
  ]);
  it('any order and spacing of a valid SPF record passes', () => {
    fc.assert(
      fc.property(
        others.chain((extra) => fc.shuffledSubarray([...ours, ...extra], { minLength: extra.length + 2 })),
        fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 12, maxLength: 12 }),
        (terms, spaces) => {
          const text = ['v=spf1', ...terms, '-all'].reduce(
            (line, term, i) => `${line}${' '.repeat(spaces[i % 12]!)}${term}`,
          );
          return verdict('spf', { spf: both(records(text)) }).outcome === 'pass';
        },
      ),
    );
  });
  it('any order and spacing of a valid DMARC record passes', () => {
    const tags = fc.shuffledSubarray(['p=quarantine', 'rua=mailto:d@acme.com', 'adkim=s', 'foo=bar'], { minLength: 1 });
    fc.assert(
      fc.property(tags, fc.constantFrom('', ' ', '  ', '\t'), fc.boolean(), (chosen, space, end) => {
        const all = chosen.includes('p=quarantine') ? chosen : ['p=quarantine', ...chosen];
        const text = ['v=DMARC1', ...all].join(`${space};${space}`) + (end ? ';' : '');
        return verdict('dmarc', { dmarc: both(records(text)) }).outcome === 'pass';
      }),
    );
  });
  it.each([
    ['spf', goodSpf, ['v=spf1', ...ours]],
    ['verification', 'sendmux-verify=team_abc123', ['sendmux-verify=team_abc123']],
    ['dmarc', 'v=DMARC1; p=quarantine', ['v=DMARC1', 'p=quarantine']],
  ] as const)('any other byte in a required term of %s fails', (question, text, terms) => {
    const places = terms.flatMap((term) => Array.from(term, (_, i) => text.indexOf(term) + i));
    const check = question === 'verification' ? 'verification_txt' : question;
    fc.assert(
      fc.property(fc.constantFrom(...places), fc.integer({ min: 0, max: 255 }), (place, byte) => {
        const changed = text.slice(0, place) + String.fromCharCode(byte) + text.slice(place + 1);
        // Letter case is free where the grammar says so, which other tests hold.
        fc.pre(changed.toLowerCase() !== text.toLowerCase());
        return verdict(check, { [question]: both(records(changed)) }).outcome === 'fail';
      }),
      { numRuns: sample(600, 2_000) },
    );
  });
  it('any text gives a verdict', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: anyCharacter })), (values) => {
        const answer = both(records(...values));
        const { findings } = look({ spf: answer, dmarc: answer, verification: answer });
        return findings.length === checkNames.length && findings.slice(1, 4).every(({ outcome }) => outcome === 'fail');
      }),
    );
  });
});
