/**
 * A sweep's look at N healthy domains, four DoH queries each and the verdicts, against a bare `node:http2` loop that sends the same
 * queries over as many connections with as many under way. Both in turn, on one BIND (h2c); what counts is the ratio.
 * The bare loop has its paths made beforehand and throws the answers away: what it takes is the cost of HTTP/2 and BIND.
 *
 *     node dist/bench/sweep.js [--domains 5000] [--rounds 5] [--concurrency 48]
 */
import { spawnSync } from 'node:child_process';
import { connect, type ClientHttp2Session } from 'node:http2';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import * as packet from 'dns-packet';
import { DohClient } from '@app/dns';
import { allPass, dmarcValue, dnsRecords, spfValue } from '@app/mail-domain';
import { Verifier } from '@app/verification';
import { bindIsInstalled, startBind } from '../test/support/bind';

const zone = 'acme.com';
const sessions = 2;
const queriesADomain = 4;

interface Round {
  readonly domainsPerSecond: number;
  /** CPU of this process, in microseconds. */
  readonly cpuPerQuery: number;
}

const domainAt = (i: number) => ({
  name: `d${i}.${zone}`,
  team: `team_${i}`,
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
});
type Domain = ReturnType<typeof domainAt>;

function zoneFile(domains: readonly Domain[]): string {
  const lines = domains.flatMap((domain) => {
    const { mx, verification } = dnsRecords(domain);
    return [
      `${domain.name}. MX ${mx[0]!.priority} ${mx[0]!.target}.`,
      `${domain.name}. TXT "${spfValue}"`,
      `_dmarc.${domain.name}. TXT "${dmarcValue}"`,
      `${verification.name}. TXT "${verification.value}"`,
    ];
  });
  return [`$TTL 60`, `@ SOA ns hostmaster 1 3600 600 86400 60`, `@ NS ns`, `ns A 127.0.0.1`, ...lines, ''].join('\n');
}

/** Takes every item, so many at a time. */
async function inLanes<T>(items: readonly T[], lanes: number, take: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < items.length) await take(items[next++]!);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

async function timed(domains: number, run: () => Promise<void>): Promise<Round> {
  const cpu = process.cpuUsage();
  const begin = performance.now();
  await run();
  const seconds = (performance.now() - begin) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  return { domainsPerSecond: domains / seconds, cpuPerQuery: (user + system) / (domains * queriesADomain) };
}

async function ours(url: string, domains: readonly Domain[], lanes: number): Promise<Round> {
  const client = new DohClient({ url, sessions });
  const notAsked = { get: () => Promise.reject(new Error('a sweep has the statuses of SES by pages')) };
  const verifier = new Verifier([client], notAsked);
  try {
    return await timed(domains.length, () =>
      inLanes(domains, lanes, async (domain) => {
        const { findings } = await verifier.check(domain, 'success');
        if (!allPass(findings)) throw new Error(`${domain.name} does not pass: ${JSON.stringify(findings)}`);
      }),
    );
  } finally {
    client.close();
  }
}

/** The four queries of a domain, as `Verifier` asks them. */
function pathsOf(url: string, { name }: Domain): string[] {
  const questions = [['MX', name] as const, ...['', '_dmarc.', '_sendmux.'].map((at) => ['TXT', at + name] as const)];
  return questions.map(([type, name]) => {
    const query = packet.encode({ id: 0, flags: packet.RECURSION_DESIRED, questions: [{ type, name }] });
    return `${new URL(url).pathname}?dns=${query.toString('base64url')}`;
  });
}

async function bare(url: string, paths: readonly string[][], lanes: number): Promise<Round> {
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

const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1]!;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      domains: { type: 'string', default: '5000' },
      rounds: { type: 'string', default: '5' },
      concurrency: { type: 'string', default: '48' },
    },
  });
  const [count, rounds, lanes] = [values.domains, values.rounds, values.concurrency].map(Number) as [
    number,
    number,
    number,
  ];
  if (!bindIsInstalled()) {
    console.error('named is not here (Debian: apt-get install bind9 bind9-dnsutils).');
    process.exitCode = 1;
    return;
  }
  const domains = Array.from({ length: count }, (_, i) => domainAt(i));
  const bind = await startBind([], { [zone]: zoneFile(domains) });
  try {
    const paths = domains.map((domain) => pathsOf(bind.dohUrl, domain));
    const version = spawnSync('/usr/sbin/named', ['-v'], { encoding: 'utf8' }).stdout.trim();
    console.log(
      `${version}, Node ${process.versions.node}, nghttp2 ${process.versions.nghttp2}, ${cpus().length} × ${cpus()[0]?.model}; ` +
        `${count} domains, ${lanes} at a time, ${rounds} rounds\n`,
    );
    const warmUp = Math.min(count, 3_000);
    await bare(bind.dohUrl, paths.slice(0, warmUp), lanes);
    await ours(bind.dohUrl, domains.slice(0, warmUp), lanes);
    const runs: { bare: Round; ours: Round }[] = [];
    for (let round = 0; round < rounds; round++) {
      // Who goes first changes, so that neither always finds the quieter machine.
      if (round % 2)
        runs.push({ ours: await ours(bind.dohUrl, domains, lanes), bare: await bare(bind.dohUrl, paths, lanes) });
      else runs.push({ bare: await bare(bind.dohUrl, paths, lanes), ours: await ours(bind.dohUrl, domains, lanes) });
    }
    const of = (who: 'bare' | 'ours', what: keyof Round) => median(runs.map((run) => run[who][what]));
    console.log('                    domains/s   CPU µs a query');
    for (const [who, label] of [
      ['bare', 'bare node:http2'],
      ['ours', 'Verifier'],
    ] as const)
      console.log(
        label.padEnd(17) +
          Math.round(of(who, 'domainsPerSecond')).toLocaleString('en').padStart(12) +
          of(who, 'cpuPerQuery').toFixed(0).padStart(17),
      );
    const ratios = runs.map((run) => run.ours.domainsPerSecond / run.bare.domainsPerSecond);
    console.log(
      `\nratio ${(of('ours', 'domainsPerSecond') / of('bare', 'domainsPerSecond')).toFixed(2)} of the medians ` +
        `(each round: ${ratios.map((ratio) => ratio.toFixed(2)).join(' ')})`,
    );
  } finally {
    bind.stop();
  }
}

void main();
