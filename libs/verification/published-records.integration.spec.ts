import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DohClient } from '@app/dns';
import { dnsPlan, recordSets, zoneFile } from '@app/mail-records';
import { bindIsInstalled, startBind, type Bind } from '../../test/support/bind';
import { asUpdates } from '../../test/support/nsupdate';
import { DnsUnanswered, PublishedRecords } from './published-records';
import { Verifier } from './verifier';

/** Skipped where BIND is not installed: tools/install-counterparts. */
(bindIsInstalled() ? describe : describe.skip)('plans and zone files on a real BIND', () => {
  let bind: Bind;
  let clients: DohClient[];
  let published: PublishedRecords;
  let verifier: Verifier;

  beforeAll(async () => {
    bind = await startBind(['acme.com', 'delegated.acme.com']);
    clients = [new DohClient({ url: bind.dohUrl }), new DohClient({ url: bind.dohUrl })];
    published = new PublishedRecords(clients);
    verifier = new Verifier(clients, { get: () => Promise.reject(new Error('SES is not asked here')) });
  });
  afterAll(() => {
    for (const client of clients ?? []) client.close();
    bind?.stop();
  });

  let count = 0;
  const freshDomain = (zone = 'acme.com') => ({
    name: `p${++count}.${zone}`,
    team: 'team_abc123',
    dkimTokens: ['token1', 'token2', 'token3'],
    dkimZone: 'dkim.amazonses.com',
    sesRegion: 'eu-west-1',
  });
  type Domain = ReturnType<typeof freshDomain>;
  const failures = async (domain: Domain) =>
    (await verifier.check(domain, 'success')).findings.filter(({ outcome }) => outcome !== 'pass');
  const plan = async (domain: Domain) => dnsPlan(domain, await published.of(domain));
  const carryOut = async (domain: Domain) => bind.update(...asUpdates(await plan(domain)));
  /** Applies the unchanged text with the real nsupdate. */
  const apply = (text: string) =>
    bind.update(
      ...text
        .split('\n')
        .filter((line) => line.startsWith('update '))
        .map((line) => line.slice('update '.length)),
    );
  const dkimIsPublished = async (domain: Domain) => {
    const names = domain.dkimTokens.map((token) => `${token}._domainkey.${domain.name}`);
    const answers = await Promise.all(names.map((name) => clients[0]!.cname(name)));
    expect(answers.map((answer) => answer.kind === 'records' && answer.records)).toEqual(
      domain.dkimTokens.map((token) => [`${token}.dkim.amazonses.com`]),
    );
  };

  it('finds the zone by its SOA record, and by the public suffix list where no resolver answers', async () => {
    await expect(published.zoneOf('a.b.acme.com')).resolves.toBe('acme.com');
    await expect(published.zoneOf('acme.com')).resolves.toBe('acme.com');
    await expect(published.zoneOf('mail.delegated.acme.com')).resolves.toBe('delegated.acme.com');
    await expect(published.zoneOf('delegated.acme.com')).resolves.toBe('delegated.acme.com');
    await expect(published.zoneOf('a.b.elsewhere.co.uk')).resolves.toBe('elsewhere.co.uk');
  });

  it('makes a domain verify by the nsupdate form of its zone file', async () => {
    for (const domain of [freshDomain(), freshDomain('delegated.acme.com')]) {
      apply(zoneFile('nsupdate', domain, 'acme.com'));
      expect(await failures(domain)).toEqual([]);
      await dkimIsPublished(domain);
      expect((await plan(domain)).map(({ action }) => action)).toEqual(recordSets(domain).map(() => 'keep'));
    }
  });

  it('gives a zone file that BIND loads, with every record', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sendmux-zone-'));
    try {
      const domain = freshDomain();
      const file = join(directory, 'acme.com');
      const head = '@ 60 SOA ns hostmaster 1 3600 600 86400 60\n@ 60 NS ns\nns 60 A 127.0.0.1\n';
      writeFileSync(file, head + zoneFile('bind', domain, 'acme.com'));
      const loaded = execFileSync('named-checkzone', ['-D', 'acme.com', file], { encoding: 'utf8', stdio: 'pipe' });
      for (const line of zoneFile('bind', domain, 'acme.com').trimEnd().split('\n')) {
        const words = line.split(' ');
        expect(loaded.split('\n').map((one) => one.replace(/\s+/g, ' '))).toContain(words.join(' '));
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  const spf = 'v=spf1 include:amazonses.com include:sendmux.ai ~all';
  /** Each state has lines in which `@` is the domain. */
  const states: [string, string[]][] = [
    ['nothing', []],
    ['C5 our MX at 20', ['@ 60 MX 20 mail.sendmux.ai.']],
    ['C8 an MX that comes first', ['@ 60 MX 10 mail.sendmux.ai.', '@ 60 MX 1 aspmx.l.google.com.']],
    ['C9 an MX beside ours', ['@ 60 MX 10 mail.sendmux.ai.', '@ 60 MX 10 mx.other.net.']],
    ['C13 a null MX', ['@ 60 MX 0 .']],
    ['C19 a CNAME at the name', ['@ 60 CNAME ghs.google.com.']],
    ['D6 an SPF record without ours', ['@ 60 TXT "v=spf1 include:_spf.google.com -all"', '@ 60 TXT "other=1"']],
    ['D8 two SPF records', [`@ 60 TXT "${spf}"`, '@ 60 TXT "v=spf1 a mx ~all"']],
    ['D13 a leading space', [`@ 60 TXT " ${spf}"`]],
    ['D15 a TAB', ['@ 60 TXT "v=spf1\\009include:amazonses.com ~all"']],
    ['B6 another team’s token', ['_sendmux.@ 60 TXT "sendmux-verify=team_zzz"']],
    ['B10 literal quotes', ['_sendmux.@ 60 TXT "\\"sendmux-verify=team_abc123\\""']],
    ['B18 the token behind a CNAME', ['_sendmux.@ 60 CNAME x.other.net.']],
    ['B20 a no-break space', ['_sendmux.@ 60 TXT "sendmux-verify=team_abc123\\194\\160"']],
    ['E5 p=none', ['_dmarc.@ 60 TXT "v=DMARC1; p=none; rua=mailto:d@acme.com"']],
    ['E11 no semicolon', ['_dmarc.@ 60 TXT "v=DMARC1 p=reject"']],
    ['E14 two DMARC records', ['_dmarc.@ 60 TXT "v=DMARC1; p=none"', '_dmarc.@ 60 TXT "v=DMARC1; p=reject"']],
    ['E22 DMARC behind a CNAME to nothing', ['_dmarc.@ 60 CNAME nothing.acme.com.']],
    ['F12 a wrong DKIM target', ['token1._domainkey.@ 60 CNAME token1.dkim.example.net.']],
    ['TXT where a DKIM CNAME belongs', ['token2._domainkey.@ 60 TXT "token2.dkim.amazonses.com"']],
    ['C20 an MX through a wildcard only', ['*.BESIDE 60 MX 10 mail.sendmux.ai.']],
    ['B19 the token through a wildcard only', ['*.BESIDE 60 TXT "sendmux-verify=team_abc123"']],
    ['a wildcard CNAME', ['*.BESIDE 60 CNAME parked.other.net.']],
  ];
  it.each(states)('mends %s: the plan, applied by nsupdate, makes the domain verify', async (_what, broken) => {
    const parent = `w${++count}.acme.com`;
    const domain = { ...freshDomain(), name: `mail.${parent}` };
    if (broken.length > 0)
      bind.update(...broken.map((line) => `add ${line.replace('BESIDE', parent).replace('@', domain.name)}`));
    expect(await failures(domain)).not.toEqual([]);
    await carryOut(domain);
    expect(await failures(domain)).toEqual([]);
    await dkimIsPublished(domain);
    const after = await plan(domain);
    expect(after.filter(({ action }) => action !== 'keep')).toEqual([]);
  });

  it('leaves unrelated records alone', async () => {
    const domain = freshDomain();
    bind.update(`add ${domain.name} 60 TXT "google-site-verification=x"`, `add ${domain.name} 60 A 192.0.2.1`);
    await carryOut(domain);
    const answer = await clients[0]!.txt(domain.name);
    expect(answer).toMatchObject({ kind: 'records' });
    expect(answer.kind === 'records' && [...answer.records].sort()).toEqual(['google-site-verification=x', spf]);
  });

  it('puts a merged SPF record of more than 255 octets in place', async () => {
    const domain = freshDomain();
    const hosts = Array.from({ length: 8 }, (_, i) => `include:_spf-of-a-long-name-number-${i}.example.net`).join(' ');
    bind.update(
      `add ${domain.name} 60 TXT "${`v=spf1 ${hosts}`.slice(0, 200)}" "${`v=spf1 ${hosts} ~all`.slice(200)}"`,
    );
    const before = await plan(domain);
    const merged = before.find(
      ({ type, name, action }) => type === 'TXT' && name === domain.name && action === 'replace',
    )!;
    expect(merged.values[0]!.length).toBeGreaterThan(255);
    // The record's strings are split in other places than nsupdate would split them, so the test deletes the whole
    // record set.
    bind.update(`delete ${domain.name} TXT`);
    bind.update(...asUpdates(before));
    const answer = await clients[0]!.txt(domain.name);
    expect(answer.kind === 'records' && answer.records).toEqual(merged.values);
    expect((await failures(domain)).filter(({ check }) => check === 'spf')).toEqual([]);
  });

  it('throws when a name server is unreachable or refuses', async () => {
    await expect(published.of({ name: 'mail.elsewhere.com', dkimTokens: [] })).rejects.toThrow(DnsUnanswered);
    const slow = [
      new DohClient({ url: bind.dohUrl, timeoutMs: 300 }),
      new DohClient({ url: bind.dohUrl, timeoutMs: 300 }),
    ];
    bind.pause();
    try {
      await expect(new PublishedRecords(slow).of({ name: 'mail.acme.com', dkimTokens: [] })).rejects.toMatchObject({
        reason: 'unreachable',
      });
    } finally {
      bind.resume();
      for (const client of slow) client.close();
    }
  });
});

const terraform = spawnSync('terraform', ['version'], { stdio: 'ignore' }).status === 0;
(terraform ? describe : describe.skip)('a Terraform file', () => {
  it('is read by Terraform, which would not format it otherwise', () => {
    const domain = {
      name: 'mail.acme.com',
      team: 'team_abc123',
      dkimTokens: ['t1', 't2', 't3'],
      dkimZone: 'dkim.amazonses.com',
      sesRegion: 'eu-west-1',
    };
    const text = zoneFile('terraform', domain, 'acme.com');
    const formatted = execFileSync('terraform', ['fmt', '-'], {
      input: text,
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    expect(formatted).toBe(text);
  });
});
