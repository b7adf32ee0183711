import { checkNames } from '@app/mail-records';
import { startSystem, type ApiClient, type System } from './support/processes';

interface Operation {
  action: 'delete' | 'replace' | 'create' | 'keep';
  name: string;
  type: string;
  values: string[];
  replaces: string[];
}
interface Detail {
  check: string;
  outcome: string;
  code: string;
  message: string;
  hint: string | null;
  fix: Operation[];
}
interface Verification {
  status: string;
  checks: Record<string, boolean>;
  checked_at: string;
  retry_at: string | null;
  details: Detail[];
}

const name = 'mail.acme.com';

/**
 * Follows the section “Troubleshooting” of the guide, heading by heading, as a customer or an agent that only applies
 * `fix`.
 */
describe('troubleshooting', () => {
  let system: System;
  let api: ApiClient;
  let team: string;
  let id: string;
  /** The verification before anything is repaired. */
  let found: Verification;
  /** The records in the sandbox's zone, by name and type. */
  const zone = new Map<string, string[]>();

  const set = async (at: string, type: string, ...values: string[]) => {
    zone.set(`${at} ${type}`, values);
    await system.sandbox.set(at, type, values);
  };
  const carryOut = async ({ action, name: at, type, values, replaces }: Operation) => {
    const there = zone.get(`${at} ${type}`) ?? [];
    const gone = action === 'delete' ? values : replaces;
    const added = action === 'delete' ? [] : values;
    await set(at, type, ...there.filter((value) => !gone.includes(value)), ...added);
  };
  const verify = async () => ((await api.verify(id)).body as { data: Verification }).data;
  const detailOf = ({ details }: Verification, check: string) => details.find((detail) => detail.check === check)!;

  beforeAll(async () => {
    system = await startSystem({
      apps: ['sandbox', 'gateway', 'provisioning', 'notifier'],
      together: 'all',
    });
    ({ api, id: team } = await system.team());
    id = ((await api.add(name)).body as { data: { id: string } }).data.id;
    await set(`_sendmux.${name}.acme.com`, 'TXT', `sendmux-verify=${team}`);
    await set(name, 'MX', '20 mail.sendmux.ai', '10 aspmx.l.google.com');
    await set(name, 'TXT', 'v=spf1 include:_spf.google.com ~all', 'v=spf1 include:sendmux.ai ~all');
    await set(`_dmarc.${name}`, 'TXT', 'v=DMARC1; p=none; rua=mailto:d@acme.com');
    found = await verify();
  });
  afterAll(() => system?.end());

  it.each([
    ['verification_txt', 'name_auto_appended', /appends the zone by itself. Enter _sendmux\.mail as its name/],
    [
      'verification_txt',
      'name_auto_appended',
      /exactly _sendmux\.mail\.acme\.com.*value is sendmux-verify=TEAM.*Wait 2–5/,
    ],
    [
      'mx',
      'mx_wrong_priority',
      /target is mail\.sendmux\.ai.*priority is 10.*mail\.acme\.com, not acme\.com.*DNS only/,
    ],
    ['spf', 'spf_multiple', /Merge all include: mechanisms into one record, .* include:_spf\.google\.com/],
    ['spf', 'spf_multiple', /Only one SPF record per hostname is allowed.*whitespace-sensitive/],
    ['dmarc', 'dmarc_policy_too_weak', /record name is _dmarc\.mail\.acme\.com and the type is TXT.*Sendmux minimum/],
    ['dkim', 'dkim_pending', /does not find all three DKIM records/],
    ['dkim', 'dkim_pending', /_domainkey\.mail\.acme\.com to .*DNS only.*72 hours.*contact@sendmux\.ai/],
  ])('%s says %s, what was found and what to do', (check, code, words) => {
    const { outcome, code: said, message, hint } = detailOf(found, check);
    expect({ outcome, said }).toEqual({ outcome: 'fail', said: code });
    expect(`${message} ${hint}`.replace(team, 'TEAM')).toMatch(words);
  });

  it('F9 an identity that was removed in SES by hand is created again, and its new records are mailed', async () => {
    const records = async () =>
      ((await api.get(id)).body as { data: { dns_records: { dkim: { name: string }[] } } }).data.dns_records.dkim;
    const before = await records();
    await system.sandbox.loseIdentity(name);
    const lost = await api.verify(id);
    expect(JSON.stringify(lost.body)).toContain('ses_identity_missing');
    await system.until('there are other records', async () => (await records())[0]!.name !== before[0]!.name);
    const [mail] = await system.until('the owner is told', async () => {
      const mails = await system.sandbox.mails();
      return mails.length > 0 ? mails : undefined;
    });
    expect(mail!.subject).toBe(`${name} needs new DKIM records`);
    for (const record of await records()) expect(mail!.text).toContain(`${record.name} CNAME `);
    expect((await system.sandbox.identities()).map((identity) => identity.name)).toEqual([name]);
  });

  it('is complete when every fix was applied, and nothing else', async () => {
    const before = await verify();
    // All but DKIM, which is a field of its own.
    const inDns = checkNames.filter((check) => check !== 'dkim');
    expect(before.checks).toEqual(Object.fromEntries(inDns.map((check) => [check, false])));
    expect(Date.parse(before.retry_at!)).toBeGreaterThan(Date.parse(before.checked_at));
    for (const { fix } of before.details) for (const operation of fix) await carryOut(operation);
    const after = await verify();
    expect(after).toMatchObject({ status: 'verified', retry_at: null });
    expect(after.details.map(({ outcome, hint, fix }) => ({ outcome, hint, fix }))).toEqual(
      checkNames.map(() => ({ outcome: 'pass', hint: null, fix: [] })),
    );
    // The existing senders of Google, the reports and the backup are kept.
    expect(zone.get(`${name} TXT`)).toEqual([
      'v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com ~all',
    ]);
    expect(zone.get(`_dmarc.${name} TXT`)).toEqual(['v=DMARC1; p=quarantine; rua=mailto:d@acme.com']);
    expect(zone.get(`_sendmux.${name}.acme.com TXT`)).toEqual([]);
  });
});
