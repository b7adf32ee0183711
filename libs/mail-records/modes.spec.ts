import { answerOf, Answers, type MxRr } from './answers';
import type { Expected } from './check';
import { explain } from './explain';
import { answersInPlace } from './in-place';
import { allPass } from './findings';
import { judge, questionsOf } from './judge';
import { dnsPlan, namesToRead } from './plan';
import { preflight } from './preflight';
import { publishedIn } from './published';
import { dnsRecords, recordSets } from './records';
import { mailTaken, planWarnings } from './rehearsal';
import { zoneFile, zoneFileFormats, type ZoneFileFormat } from './zone-file';

const name = 'mail.acme.com';
const sendReceive: Expected = {
  name,
  team: 'team_abc123',
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const sendOnly: Expected = { ...sendReceive, mode: 'send_only' };
const google = { preference: 1, exchange: 'aspmx.l.google.com' };
/** The MX of the domain itself, as records and questions name it. */
const isItsMx = (each: { type: string; name: string }) => each.type === 'MX' && each.name === name;

describe('a domain that only sends', () => {
  it('asks for no MX: in the records, the questions, the verdict, the plan and the zone files', () => {
    expect(recordSets(sendReceive).filter(isItsMx)).toHaveLength(1);
    expect(recordSets(sendOnly)).toEqual(recordSets(sendReceive).filter((each) => !isItsMx(each)));
    expect(dnsRecords(sendOnly)).toEqual({ ...dnsRecords(sendReceive), mx: [] });
    expect(questionsOf(sendOnly).filter(isItsMx)).toEqual([]);
    const nothing = publishedIn(namesToRead(sendOnly), new Answers());
    expect(dnsPlan(sendOnly, nothing).filter(isItsMx)).toEqual([]);
    for (const format of Object.keys(zoneFileFormats) as ZoneFileFormat[])
      expect(zoneFile(format, sendOnly, 'acme.com')).not.toContain('mail.sendmux.ai');
  });
  it('is verified beside the MX of another provider, which no plan or explanation touches', () => {
    const answers = answersInPlace(sendOnly).set('MX', name, [...answerOf([google]), ...answerOf([google])]);
    const assessment = judge(sendOnly, answers, 'success');
    expect(allPass(assessment.findings)).toBe(true);
    expect(allPass(judge(sendReceive, answers, 'success').findings)).toBe(false);
    const published = publishedIn(namesToRead(sendOnly), answers);
    const operations = dnsPlan(sendOnly, published);
    expect(operations.filter(isItsMx)).toEqual([]);
    expect(planWarnings(sendOnly, published, operations).map(({ code }) => code)).not.toContain('mx_wrong_target');
    const explained = explain(sendOnly, { assessment, answers, clues: new Answers(), ses: null });
    expect(explained.map(({ check }) => check)).not.toContain('mx');
  });
  it('keeps its mail in a plan, where another domain is told whose mail ends, and has ours before', () => {
    const answers = new Answers().set('MX', name, answerOf([google]));
    const plan = (domain: Expected) => dnsPlan(domain, publishedIn(namesToRead(domain), answers));
    expect(mailTaken(sendOnly, plan(sendOnly))).toEqual([]);
    const [warning] = mailTaken(sendReceive, plan(sendReceive));
    expect(warning).toMatchObject({ code: 'mail_is_received', severity: 'warning' });
    expect(warning!.message).toMatch(/^Google Workspace \(aspmx\.l\.google\.com\) receives the mail/);
    expect(
      plan(sendReceive)
        .filter(isItsMx)
        .map(({ action }) => action),
    ).toEqual(['create', 'delete']);
  });
  it('takes no mail away, so that the preflight warns only of the other mode, and offers this one', () => {
    const answers = new Answers().set('MX', name, answerOf([google]));
    const said = ({ mode }: Pick<Expected, 'mode'>) =>
      preflight({ name, mode }, publishedIn(namesToRead({ name, mode, dkimTokens: [] }), answers), 'acme.com', true)
        .findings;
    expect(said(sendOnly).map(({ code }) => code)).not.toContain('mail_is_received');
    const warning = said(sendReceive).find(({ code }) => code === 'mail_is_received');
    expect(warning?.message).toMatch(/mode send_only.* or add a name of its own for mail, such as mail\./);
  });
});

describe('a preflight', () => {
  const at = (preference: number, exchange: string) => ({ preference, exchange });
  const [ours, other] = ['mail.sendmux.ai', 'mx.other.net'];
  const before = (mx: readonly MxRr[], aliases: readonly string[] = []) => {
    const answers = new Answers().set('MX', name, answerOf(mx, aliases));
    return preflight(sendReceive, publishedIn([{ name, mx: true }], answers), 'acme.com', false);
  };
  const warned = (mx: readonly MxRr[], aliases?: readonly string[]) =>
    /^(\S+) .*receives the mail/.exec(
      before(mx, aliases).findings.find(({ code }) => code === 'mail_is_received')?.message ?? '',
    )?.[1];

  it.each<[string, readonly MxRr[]]>([
    ['comes after ours', [at(10, ours), at(20, other)]],
    ['comes after ours of another priority', [at(20, ours), at(30, other)]],
    ['is our own', [at(10, ours), at(20, ours)]],
    ['says that there is no mail', [at(0, '')]],
  ])('warns of no end of the mail of a host that %s', (_what, mx) => {
    expect(warned(mx)).toBeUndefined();
  });

  it.each<[string, readonly MxRr[]]>([
    ['comes alone', [at(10, other)]],
    ['comes alone, at the priority of a backup', [at(20, other)]],
    ['comes before ours', [at(5, other), at(10, ours)]],
    ['shares the mail with ours', [at(10, ours), at(10, other)]],
    ['comes before ours, and after the priority that ours gets', [at(15, other), at(20, ours), at(30, 'x.other.net')]],
  ])('warns of the end of the mail of a host that %s', (_what, mx) => {
    expect(warned(mx)).toBe(other);
  });

  it('sees the mail hosts to which a CNAME leads', () => {
    expect(warned([at(10, other)], ['host.example'])).toBe(other);
    expect(before([at(10, other)], ['host.example']).receivedBy).toEqual([
      { preference: 10, host: other, provider: null },
    ]);
  });
});
