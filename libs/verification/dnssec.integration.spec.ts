import { DohClient } from '@app/dns';
import { bindIsInstalled, signZone, startBind, startValidatingBind, type Bind } from '../../test/support/bind';
import { Verifier } from './verifier';

const zoneOf = (name: string) => `$TTL 60
@ SOA ns.${name}. hostmaster.${name}. 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
mail MX 10 mail.sendmux.ai.
mail TXT "v=spf1 include:amazonses.com include:sendmux.ai ~all"
_dmarc.mail TXT "v=DMARC1; p=quarantine"
_sendmux.mail TXT "sendmux-verify=team_abc123"
bounce.mail MX 10 feedback-smtp.eu-west-1.amazonses.com.
bounce.mail TXT "v=spf1 include:amazonses.com ~all"
`;

/** Skipped where BIND is not installed: tools/install-counterparts. */
(bindIsInstalled() ? describe : describe.skip)('signed zones, on a BIND that validates', () => {
  let authority: Bind;
  let resolver: Awaited<ReturnType<typeof startValidatingBind>>;
  let clients: DohClient[];

  beforeAll(async () => {
    const signed = signZone('signed.com', zoneOf('signed.com'));
    const broken = signZone('broken.com', zoneOf('broken.com'));
    // Signs the zone as after a change of keys that the registrar does not know of.
    const { anchor } = signZone('broken.com', zoneOf('broken.com'));
    authority = await startBind([], {
      'signed.com': signed.text,
      'broken.com': broken.text,
      'plain.com': zoneOf('plain.com'),
    });
    resolver = await startValidatingBind(authority, [signed.anchor, anchor]);
    clients = [0, 1].map(() => new DohClient({ url: resolver.dohUrl }));
  });
  afterAll(() => {
    for (const client of clients ?? []) client.close();
    resolver?.stop();
    authority?.stop();
  });

  const look = (name: string, by = clients) =>
    new Verifier(by, { get: () => Promise.reject(new Error('not asked')) }).check(
      {
        name,
        team: 'team_abc123',
        dkimTokens: ['a', 'b', 'c'],
        dkimZone: 'dkim.amazonses.com',
        sesRegion: 'eu-west-1',
      },
      'success',
    );
  const codes = async (name: string, by = clients) =>
    (await look(name, by)).findings.slice(0, 5).map(({ code }) => code);

  it('G3 a signed zone is secure', async () => {
    expect(await codes('mail.signed.com')).toEqual(['ok', 'ok', 'ok', 'ok', 'ok']);
    expect((await look('mail.signed.com')).dnssec).toBe('secure');
  });
  it('G3 a signed denial is secure', async () => {
    expect(await clients[0]!.txt('nothing.signed.com')).toMatchObject({
      kind: 'nxdomain',
      evidence: { authenticated: true, ttl: expect.any(Number) as number },
    });
  });
  it('G5 an unsigned zone passes, and is insecure', async () => {
    expect(await codes('mail.plain.com')).toEqual(['ok', 'ok', 'ok', 'ok', 'ok']);
    expect((await look('mail.plain.com')).dnssec).toBe('insecure');
  });
  it('G4 a zone whose signatures do not validate is reported as bogus', async () => {
    expect(await codes('mail.broken.com')).toEqual([...Array.from({ length: 4 }, () => 'dnssec_bogus'), 'ok']);
    expect((await look('mail.broken.com')).dnssec).toBe('bogus');
  });
  it('G4 a zone whose signatures do not validate passes by a resolver that does not validate', async () => {
    const careless = new DohClient({ url: authority.dohUrl });
    try {
      expect(await codes('mail.broken.com', [clients[0]!, careless])).toEqual(['ok', 'ok', 'ok', 'ok', 'ok']);
    } finally {
      careless.close();
    }
  });
});
