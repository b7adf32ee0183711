import fc from 'fast-check';
import {
  dnsPlan,
  hostOf,
  planWarnings,
  recordSets,
  type DomainMode,
  type Expected,
  type Explained,
  type Operation,
  type PlanWarning,
} from '@app/mail-records';
import { allowedMs, excessOf, longest, octetsOf } from '../../test/support/bounded-time';
import { anyCharacter } from '../../test/support/characters';
import { isInRun, sample, tellPart } from '../../test/support/sample';
import { ZoneModel, type ZoneData } from '../../test/support/zone-model';
import { Explainer } from './explainer';
import { PublishedRecords, type Questions } from './published-records';
import { Verifier } from './verifier';

const d = 'mail.acme.com';
const receiving: Expected = {
  name: d,
  team: 'team_abc123',
  dkimTokens: ['t1', 't2'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const domains = fc.constantFrom<DomainMode[]>('send_receive', 'send_only').map((mode) => ({ ...receiving, mode }));
const own = 'include:amazonses.com include:sendmux.ai';
const spf = `v=spf1 ${own} ~all`;
const platform: ZoneData = {
  'amazonses.com': { TXT: ['v=spf1 ip4:199.255.192.0/22 -all'] },
  'sendmux.ai': { TXT: ['v=spf1 ip4:192.0.2.0/24 -all'] },
  'acme.com': { SOA: ['x'] },
};

const hosts = ['x.vendor.com', 'y.vendor.com', 'z.vendor.com'];
const octets = fc.string({ unit: anyCharacter, maxLength: 30 });
const vendors = hosts.flatMap((host) => [`include:${host}`, `-include:${host}`, `redirect=${host}`]);
const manyLookUps = 'a a:b.org mx:c.org ptr exists:d.org a:e.org mx:f.org';
const words =
  'include:amazonses.com -include:amazonses.com include:sendmux.ai ~include:sendmux.ai a mx ptr ip4:192.0.2.1 ' +
  'exists:%{i}.x.org exists:%{c}.x.org foo:bar foo=bar a,mx -all ~all ?all all include:';
const term = fc.constantFrom(own, manyLookUps, ...words.split(' '), ...vendors);
const spfText = fc
  .tuple(fc.constantFrom('v=spf1', 'v=spf1', 'V=SPF1', ' v=spf1', '"v=spf1'), fc.array(term, { maxLength: 5 }))
  .map(([version, terms]) => [version, ...terms].join(' '));
const tag = fc.constantFrom('p=none', 'p=quarantine', 'p=reject', 'sp=none', 'pct=5', 'rua=mailto:a@x.net', 't=y', 'x');
const dmarcText = fc
  .tuple(
    fc.constantFrom('v=DMARC1', 'v=dmarc1', '"v=DMARC1'),
    fc.array(tag, { maxLength: 4 }),
    fc.constantFrom('; ', ' '),
  )
  .map(([version, tags, separator]) => [version, ...tags].join(separator));
const token = fc.constantFrom('sendmux-verify=team_abc123', 'sendmux-verify=TEAM_ABC123', 'team_abc123');
const text = fc.oneof(fc.constant(spf), spfText, dmarcText, token, octets, fc.constant('v=DMARC1; p=quarantine'));
const mx = fc
  .tuple(fc.constantFrom(0, 10, 20), fc.constantFrom('mail.sendmux.ai', 'mail.sendmux.ai', 'mx.other.net', '.'))
  .map(([preference, exchange]) => `${preference} ${exchange}`);
const target = fc.constantFrom(
  'host.example',
  'full.example',
  't1.dkim.amazonses.com',
  d,
  `_dmarc.${d}`,
  'alias.example',
);
type Node = ZoneData[string];
const few = (arbitrary: fc.Arbitrary<string>) => fc.uniqueArray(arbitrary, { minLength: 1, maxLength: 3 });
const node: fc.Arbitrary<Node> = fc.oneof(
  { weight: 3, arbitrary: few(text).map((TXT): Node => ({ TXT })) },
  { weight: 1, arbitrary: few(mx).map((MX): Node => ({ MX })) },
  { weight: 3, arbitrary: fc.record({ TXT: few(text), MX: few(mx) }) },
  { weight: 3, arbitrary: target.map((one): Node => ({ CNAME: [one] })) },
  // Behind a CNAME that leads nowhere nobody sees what stands beside it.
  { weight: 1, arbitrary: few(text).map((TXT): Node => ({ CNAME: ['full.example'], TXT })) },
  { weight: 1, arbitrary: fc.constant<Node>({ A: ['192.0.2.1'] }) },
  { weight: 1, arbitrary: fc.constant<Node>({ DNAME: ['acme.net'] }) },
);
const ours = recordSets(receiving).map(({ name }) => name);
const others = '*. _domainkey. *._domainkey. www. _mta-sts.'.split(' ').map((labels) => labels + d);
const names = ['acme.com', '*.acme.com', '_dmarc.acme.com', d, ...new Set([...ours, ...others])];
const zones: fc.Arbitrary<ZoneData> = fc
  .tuple(
    fc.dictionary(fc.constantFrom(...names), node, { maxKeys: 7, noNullPrototype: true }),
    fc.dictionary(fc.constantFrom(...hosts, 'acme.net', 'mail.acme.net', 'host.example'), node, {
      noNullPrototype: true,
    }),
  )
  .map(([zone, others]): ZoneData => ({
    ...platform,
    'full.example': { MX: ['10 mail.sendmux.ai'], TXT: [spf, 'v=DMARC1; p=reject', 'sendmux-verify=team_abc123'] },
    'alias.example': { CNAME: ['full.example'] },
    ...others,
    ...zone,
  }))
  // A server takes no record below a DNAME (RFC 6672 section 2.4).
  .map((zone) => {
    const dnames = Object.keys(zone).filter((name) => zone[name]!.DNAME);
    const hasPlace = (name: string) => !dnames.some((at) => name.endsWith(`.${at}`));
    // Records of other types at a DKIM name are not read.
    const isOdd = (name: string) => /^t\d\./.test(name) && (zone[name]!.A ?? zone[name]!.DNAME) !== undefined;
    return Object.fromEntries(Object.entries(zone).filter(([name]) => hasPlace(name) && !isOdd(name)));
  });

interface Advice {
  readonly details: readonly Explained[];
  readonly operations: readonly Operation[];
  readonly warnings: readonly PlanWarning[];
}

const identity = { status: 'pending', tokens: receiving.dkimTokens, verification: {} } as never;
const verifierOf = (resolvers: readonly Questions[]) =>
  new Verifier(resolvers, { get: () => Promise.resolve(identity) });

/** Makes the plan. The model answers every question, so that a zone that cannot be read is a fault of ours. */
async function planOf(domain: Expected, resolvers: readonly Questions[]): Promise<Omit<Advice, 'details'>> {
  const published = await new PublishedRecords(resolvers).of(domain);
  const operations = dnsPlan(domain, published);
  return { operations, warnings: planWarnings(domain, published, operations) };
}

async function adviceOn(domain: Expected, zone: ZoneModel): Promise<Advice> {
  const resolvers = [zone.resolver, zone.resolver];
  const look = await verifierOf(resolvers).look(domain);
  const details = await new Explainer(resolvers, ['one', 'other']).explain(domain, look, null);
  return { details, ...(await planOf(domain, resolvers)) };
}

/** The names of DKIM records that are not in place. */
const withoutDkim = (zone: ZoneModel): string[] =>
  receiving.dkimTokens
    .filter((token) => !zone.stored('CNAME', `${token}._domainkey.${d}`).includes(`${token}.${receiving.dkimZone}`))
    .map((token) => `${token}._domainkey.${d}`);
const failing = (details: readonly Explained[]) =>
  details.filter(({ check, outcome }) => check !== 'dkim' && outcome !== 'pass').map(({ check }) => check);
const valueOf = ({ name, type }: Operation, value: string) => `${name} ${type} ${value}`;
/** Values that there are after operations, and values that are gone. */
const placed = (operations: readonly Operation[]) =>
  new Set(operations.flatMap((each) => (each.action === 'delete' ? [] : each.values.map((v) => valueOf(each, v)))));
const gone = (operations: readonly Operation[]) =>
  new Set(
    operations.flatMap((each) =>
      each.action === 'delete'
        ? each.values.map((value) => valueOf(each, value))
        : each.replaces.filter((value) => !each.values.includes(value)).map((value) => valueOf(each, value)),
    ),
  );

/** Puts so many other TXT records beside those of each name. */
const filledZone = ([data, domain, count, length]: readonly [ZoneData, Expected, number, number]) => {
  const fill = Array.from({ length: count }, (_, i) => `x=${i}`.padEnd(length, '.'));
  const filled = Object.entries(data).map(([name, node]): [string, Node] => [
    name,
    node.TXT ? { ...node, TXT: [...node.TXT, ...fill] } : node,
  ]);
  return { data: Object.fromEntries(filled), domain };
};

/** A resolver that counts the octets of what it says. */
function countedBy(counter: { octets: number }, resolver: Questions): Questions {
  const counted = Object.entries(resolver).map(([type, ask]: [string, Questions[keyof Questions]]) => [
    type,
    async (name: string) => {
      const answer = await ask(name);
      const records: readonly unknown[] = answer.kind === 'records' ? answer.records : [];
      counter.octets += octetsOf(records.map((rr) => (typeof rr === 'string' ? rr : 'mx')));
      return answer;
    },
  ]);
  return Object.fromEntries(counted) as Questions;
}

describe('whatever is published', () => {
  const seed = 20_261_128;
  const runs = { seed, numRuns: 200 };
  const share = 4;
  beforeAll(() => {
    console.info(`fast-check: seed ${seed}, ${runs.numRuns} zones a property`);
    tellPart(share);
  });
  /** Makes a property of the zones that this run takes. */
  const ofZones = (holds: (data: ZoneData, domain: Expected) => Promise<void>) => {
    let [made, hasFailed] = [0, false];
    return fc.asyncProperty(zones, domains, async (data, domain) => {
      // What fails is made smaller, by zones that no run leaves out.
      if (!isInRun(made++, share) && !hasFailed) return;
      await holds(data, domain).catch((error: unknown) => {
        hasFailed = true;
        throw error;
      });
    });
  };
  /** Gives how many of something a run has to have at least, of which all zones have more than `inAll`. */
  const enough = (inAll: number) => sample(Math.floor(inAll / share / 3), inAll);

  it('the plan, carried out by a strict server, makes every check pass or says why it cannot', async () => {
    let [carriedOut, blocked] = [0, 0];
    await fc.assert(
      ofZones(async (data, domain) => {
        const zone = new ZoneModel(data);
        const advice = await adviceOn(domain, zone);
        const after = await adviceOn(domain, zone.after(advice.operations));
        const isBlocked = advice.warnings.some(({ severity }) => severity === 'blocking');
        if (isBlocked) blocked++;
        else {
          carriedOut++;
          expect(failing(after.details)).toEqual([]);
          const undone = after.operations.filter(({ action }) => action !== 'keep');
          expect(undone).toEqual([]);
        }
        // What our checks say of the result, they have said of the plan.
        const said = new Set(advice.warnings.map(({ code }) => code));
        for (const { warnings } of after.details)
          for (const { code, severity } of warnings) if (severity === 'breaking') expect(said).toContain(code);
      }),
      runs,
    );
    expect(Math.min(carriedOut, blocked)).toBeGreaterThan(enough(10));
  });

  it('each fix, carried out, makes its check pass or says why not, and breaks no other check', async () => {
    let [fixed, dkimFixed] = [0, 0];
    await fc.assert(
      ofZones(async (data, domain) => {
        const zone = new ZoneModel(data);
        const advice = await adviceOn(domain, zone);
        const before = failing(advice.details);
        for (const { check, fix, code, warnings } of advice.details) {
          const isMendedByAnother = code === 'cname_at_name' || (code === 'cname_loop' && check === 'spf');
          if (check === 'dkim') {
            const written = fix.filter(({ action }) => action !== 'delete').map(({ name }) => name);
            const isBlocked = warnings.some((each) => each.code === 'dname_above');
            if (!isBlocked) expect(written).toEqual(expect.arrayContaining(withoutDkim(zone)));
          }
          if (fix.length === 0 || isMendedByAnother) continue;
          const after = await adviceOn(domain, zone.after(fix));
          fixed++;
          const still = failing(after.details);
          if (warnings.every(({ severity }) => severity !== 'breaking')) expect(still).not.toContain(check);
          if (check === 'dkim') {
            dkimFixed++;
            expect(after.details.find((each) => each.check === check)!.fix).toEqual([]);
          }
          expect(before).toEqual(expect.arrayContaining(still));
        }
      }),
      runs,
    );
    expect(fixed).toBeGreaterThan(enough(50));
    expect(dkimFixed).toBeGreaterThan(enough(20));
  });

  it('plan and fixes do not contradict each other, and no octet makes any of them throw', async () => {
    await fc.assert(
      ofZones(async (data, domain) => {
        const advice = await adviceOn(domain, new ZoneModel(data));
        const [planPlaced, planGone] = [placed(advice.operations), gone(advice.operations)];
        for (const { fix } of advice.details) {
          for (const value of placed(fix)) {
            expect(planPlaced).toContain(value);
            expect(planGone).not.toContain(value);
          }
          for (const value of gone(fix)) {
            expect(planPlaced).not.toContain(value);
            const isMisplaced = fix[0]!.reason === 'Nobody looks for it here.';
            if (!isMisplaced) expect(planGone).toContain(value);
          }
          for (const { name } of fix) expect(hostOf(d, name)).toBe(name.slice(0, -'.acme.com'.length));
        }
      }),
      runs,
    );
  });

  it('a judgement, a plan and an explanation take at most 50 ms of CPU for 64 KiB of answers', async () => {
    let octets = 0;
    const filled = fc.tuple(zones, domains, fc.constantFrom(0, 4, 200), fc.constantFrom(20, 250)).map(filledZone);
    const property = fc.asyncProperty(filled, async ({ data, domain }) => {
      const zone = new ZoneModel(data);
      const resolvers = [zone.resolver, zone.resolver];
      const look = await verifierOf(resolvers).look(domain);
      const told: (string | undefined)[] = [];
      for (const read of [
        (counted: Questions[]) => verifierOf(counted).look(domain),
        (counted: Questions[]) => new Explainer(counted, ['one', 'other']).explain(domain, look, null),
        (counted: Questions[]) => planOf(domain, counted),
      ]) {
        const counter = { octets: 0 };
        const run = () => {
          counter.octets = 0;
          return read(resolvers.map((resolver) => countedBy(counter, resolver)));
        };
        told.push(
          await excessOf({
            // A reading asks its questions however little is answered, so that a short one may take as long.
            get octets() {
              return Math.max(counter.octets, longest);
            },
            run,
            allowedMs,
          }),
        );
        octets = Math.max(octets, counter.octets);
      }
      expect(told).toEqual([undefined, undefined, undefined]);
    });
    await fc.assert(property, { seed, numRuns: 60, endOnFailure: true });
    console.info(`fast-check: the answers of one reading had up to ${octets} octets`);
    expect(octets).toBeGreaterThan(longest);
  });
});
