/**
 * Compares the looks at N healthy domains, with four DoH queries each and their judgement, with a bare `node:http2`
 * loop that sends the same queries over as many connections with the same concurrency. Both run in turn on one BIND
 * (h2c); the result is the ratio. The bare loop has its paths prepared and discards the answers, so it shows the cost
 * of HTTP/2 and BIND.
 *
 *     node dist/bench/sweep.js [--domains 5000] [--rounds 5] [--concurrency 48]
 */
import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { DohClient } from '@app/dns';
import { allPass } from '@app/mail-records';
import { Verifier } from '@app/verification';
import { bindIsInstalled, startBind } from '../test/support/bind';
import { median, report } from './figure';
import {
  bare,
  domainAt,
  inLanes,
  pathsOf,
  sessions,
  timed,
  zone,
  zoneFile,
  type Domain,
  type Round,
} from './healthy-domains';

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
      // The order changes every round, so that neither always has the less busy machine.
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
      `\nratio ${report('sweep, to a bare loop', ratios)}; CPU of a query ` +
        report(
          'CPU of a query of a sweep, to a bare loop',
          runs.map((run) => run.ours.cpuPerQuery / run.bare.cpuPerQuery),
          'lower',
        ),
    );
  } finally {
    bind.stop();
  }
}

void main();
