import { dnsPlan, type Answer, type MxRr, type TxtRr } from '@app/mail-records';
import {
  allowedMs,
  functionsIn,
  itIsLinear,
  longest,
  octetsOf,
  outcomeOf,
  textOf,
  textsOf,
  type Hostile,
  type Reader,
} from '../../test/support/bounded-time';
import { sample } from '../../test/support/sample';
import { Canary } from './canary';
import { Explainer } from './explainer';
import { PublishedRecords, type Questions } from './published-records';
import { Verifier } from './verifier';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const ours = 'v=spf1 include:amazonses.com include:sendmux.ai';
const identity = { status: 'pending', tokens: domain.dkimTokens, verification: {} } as never;

/** What a zone gives for each name that is asked for, and the octets of it. */
interface Zone {
  readonly txt: (name: string) => readonly TxtRr[];
  readonly mx: readonly MxRr[];
  readonly cname: readonly string[];
}

function zonesOf(text: Hostile, length: number): Zone[] {
  const [one, many] = [textOf(text, length), textsOf(text, length)];
  // With pointers an RR takes 16 octets, whatever its exchange.
  const mx = (exchange: string): MxRr[] =>
    Array.from({ length: Math.floor(length / 16) }, (_, preference) => ({ preference, exchange }));
  const host = textOf(text, 250);
  return [
    { txt: () => [one], mx: mx('mail.sendmux.ai'), cname: [] },
    { txt: () => many, mx: mx(host), cname: [] },
    // What passes leads elsewhere, and is warned of.
    {
      txt: (name) =>
        name === domain.name
          ? [`${ours} ${Array.from({ length: 10 }, (_, i) => `include:n${i}.net`).join(' ')} ~all`, ...many]
          : name.startsWith('_dmarc')
            ? [`v=DMARC1; p=quarantine; ${one}`]
            : ['sendmux-verify=team_abc123', ...many],
      mx: [{ preference: 10, exchange: 'mail.sendmux.ai' }, ...mx('x.net')],
      cname: [],
    },
    { txt: () => [one], mx: [], cname: [host] },
  ];
}

function resolverOf({ txt, mx, cname }: Zone): { resolver: Questions; said: () => number } {
  let octets = 0;
  const answer = <Rr>(records: readonly Rr[]): Promise<Answer<Rr>> => {
    for (const rr of records) octets += typeof rr === 'string' ? octetsOf([rr]) : 16;
    const aliases = cname.slice(0, 1);
    return Promise.resolve(records.length > 0 ? { kind: 'records', records, aliases } : { kind: 'nodata', aliases });
  };
  const none = () => Promise.resolve<Answer<never>>({ kind: 'nodata', aliases: [] });
  const resolver: Questions = {
    txt: (name) => answer(txt(name)),
    mx: () => answer(mx),
    cname: () => (cname.length > 0 ? Promise.resolve({ kind: 'records', records: cname, aliases: [] }) : none()),
    soa: none,
    ns: none,
    a: none,
    aaaa: none,
  };
  return { resolver, said: () => octets };
}

/** Reads through two resolvers. All that they say counts, as it all has to be read. */
const ofZones =
  (read: (resolvers: Questions[]) => Promise<unknown>): Reader =>
  (text, length) => {
    const zones = zonesOf(text, length).map(resolverOf);
    let octets: number | undefined;
    const run = async () => {
      for (const { resolver } of zones) await outcomeOf(() => read([resolver, resolver]));
      octets ??= zones.reduce((sum, { said }) => sum + said(), 0);
    };
    return {
      get octets() {
        return octets ?? 1;
      },
      run,
      allowedMs,
    };
  };

const readers: Record<string, Reader> = {
  'a look and its explanation': ofZones(async (resolvers) => {
    const look = await new Verifier(resolvers, { get: () => Promise.resolve(identity) }).look(domain);
    return new Explainer(resolvers, ['one', 'other'], 60_000).explain(domain, look, null);
  }),
  'a plan': ofZones(async (resolvers) => dnsPlan(domain, await new PublishedRecords(resolvers).of(domain))),
  'the zone': ofZones((resolvers) => new PublishedRecords(resolvers).zoneOf(domain.name)),
  'the canary': ofZones((resolvers) => new Canary(resolvers, 'verification-canary.sendmux.ai').isFound()),
};

describe('what resolvers say is read in time linear in its length, with all that it leads to', () => {
  it('by every class that there is', () => {
    // They only pass on what the classes ask.
    expect(functionsIn(__dirname)).toEqual(['ask', 'everyResolver', 'follow']);
  });

  itIsLinear(readers, 17, 3, sample(longest / 16, longest), 8);
});
