/** Healthy domains on a BIND, and the bare loop that queries them. */
import { connect, type ClientHttp2Session } from 'node:http2';
import { encodeQuery } from '@app/dns';
import { questionsOf, rdata, recordSets } from '@app/mail-records';

export const zone = 'acme.com';
export const sessions = 2;

export interface Round {
  readonly domainsPerSecond: number;
  /** CPU time of this process, in microseconds. */
  readonly cpuPerQuery: number;
}

export const domainAt = (i: number) => ({
  name: `d${i}.${zone}`,
  team: `team_${i}`,
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
});
export type Domain = ReturnType<typeof domainAt>;
export const queriesADomain = questionsOf(domainAt(0)).length;

export function zoneFile(domains: readonly Domain[]): string {
  const lines = domains.flatMap((domain) => {
    const inDns = recordSets(domain).filter(({ type }) => type !== 'CNAME');
    return inDns.flatMap(({ name, type, values }) => values.map((value) => `${name}. ${type} ${rdata(type, value)}`));
  });
  return [`$TTL 60`, `@ SOA ns hostmaster 1 3600 600 86400 60`, `@ NS ns`, `ns A 127.0.0.1`, ...lines, ''].join('\n');
}

/** Takes every item, `lanes` at a time. */
export async function inLanes<T>(items: readonly T[], lanes: number, take: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < items.length) await take(items[next++]!);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

export async function timed(domains: number, run: () => Promise<void>): Promise<Round> {
  const cpu = process.cpuUsage();
  const begin = performance.now();
  await run();
  const seconds = (performance.now() - begin) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  return { domainsPerSecond: domains / seconds, cpuPerQuery: (user + system) / (domains * queriesADomain) };
}

/** Gives the queries of a domain, as `Verifier` sends them. */
export const pathsOf = (url: string, domain: Domain): string[] =>
  questionsOf(domain).map(({ type, name }) => `${new URL(url).pathname}?dns=${encodeQuery(name, type)}`);

export async function bare(url: string, paths: readonly string[][], lanes: number): Promise<Round> {
  const connections = Array.from({ length: sessions }, () => connect(new URL(url).origin));
  for (const connection of connections) connection.setMaxListeners(0);
  const get = (session: ClientHttp2Session, path: string) =>
    new Promise<void>((resolve, reject) => {
      const stream = session.request({ ':path': path, accept: 'application/dns-message' });
      let status: number | undefined;
      stream.on('response', (headers) => (status = headers[':status']));
      stream.on('data', () => undefined);
      stream.on('error', reject);
      stream.on('close', () => (status === 200 ? resolve() : reject(new Error(`status ${status}`))));
      stream.end();
    });
  try {
    return await timed(paths.length, () =>
      inLanes(paths, lanes, async (four) => {
        await Promise.all(four.map((path, i) => get(connections[i % sessions]!, path)));
      }),
    );
  } finally {
    for (const connection of connections) connection.destroy();
  }
}
