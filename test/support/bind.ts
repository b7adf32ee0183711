import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../local/embedded-postgres';
import { stopWithLauncher } from '../../local/stop-with-launcher';

export interface Bind {
  /** The URL of DoH (RFC 8484) over cleartext HTTP/2. */
  readonly dohUrl: string;
  /** The port of plain DNS, for nsupdate and dig. */
  readonly port: number;
  /** Runs lines of nsupdate, such as `add mail.acme.com 60 MX 10 mail.sendmux.ai`, in one transaction. */
  update(...lines: string[]): void;
  pause(): void;
  resume(): void;
  stop(): void;
}

const named = '/usr/sbin/named';
export const bindIsInstalled = (): boolean => existsSync(named);

/** Whether every thread of a process is stopped (field 3 of the stat file in proc(5)). */
const stands = (pid: number): boolean =>
  readdirSync(`/proc/${pid}/task`).every((thread) =>
    /^\d+ \(.*\) T /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')),
  );

/** The zone that contains the scheduler's canary. */
const platformZone = `$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
verification-canary TXT "here"
`;

export interface SignedZone {
  /** The zone file with signatures, for `startBind`. */
  readonly text: string;
  /** The trust anchor of the key, in the form of `trust-anchors`. */
  readonly anchor: string;
}

/** Signs a zone (RFC 4035) with a new key. */
export function signZone(zone: string, text: string): SignedZone {
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-sign-'));
  try {
    const run = (command: string, ...args: string[]) =>
      execFileSync(command, args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const key = run('dnssec-keygen', '-q', '-a', 'ECDSAP256SHA256', '-f', 'KSK', zone).trim();
    writeFileSync(join(directory, 'zone'), text);
    run('dnssec-signzone', '-S', '-z', '-o', zone, '-f', 'signed', 'zone');
    const [tag, algorithm, type, digest] = run('dnssec-dsfromkey', '-2', key).trim().split(' DS ')[1]!.split(' ');
    return {
      text: readFileSync(join(directory, 'signed'), 'utf8'),
      anchor: `"${zone}" static-ds ${tag} ${algorithm} ${type} "${digest}";`,
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Starts a real BIND that resolves through another one, validates its answers, and serves DoH. */
export async function startValidatingBind(
  authority: Pick<Bind, 'port'>,
  anchors: readonly string[],
): Promise<Pick<Bind, 'dohUrl' | 'stop'>> {
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-resolver-'));
  chmodSync(directory, 0o755);
  const [port, dohPort] = [await freePort(), await freePort()];
  writeFileSync(
    join(directory, 'named.conf'),
    `controls { };
http local-doh { endpoints { "/dns-query"; }; };
options {
  directory "${directory}";
  pid-file "${directory}/named.pid";
  session-keyfile "${directory}/session.key";
  managed-keys-directory "${directory}";
  listen-on-v6 { none; };
  listen-on port ${port} { 127.0.0.1; };
  listen-on port ${dohPort} tls none http local-doh { 127.0.0.1; };
  recursion yes;
  allow-query { 127.0.0.1; };
  allow-recursion { 127.0.0.1; };
  forward only;
  forwarders port ${authority.port} { 127.0.0.1; };
  dnssec-validation yes;
  empty-zones-enable no;
};
trust-anchors { ${anchors.join(' ')} };
logging { channel f { file "${directory}/named.log"; severity info; }; category default { f; }; };
`,
  );
  const child = spawnNamed(directory);
  await answers(child, port, 'sendmux.ai', directory);
  return {
    dohUrl: `http://127.0.0.1:${dohPort}/dns-query`,
    stop: () => {
      child.kill('SIGKILL');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Starts named so that it ends with this process, however that ends. */
function spawnNamed(directory: string): ChildProcess {
  const child = spawn(named, ['-f', '-n', '1', '-c', join(directory, 'named.conf')], { stdio: 'ignore' });
  if (child.pid !== undefined) child.once('exit', stopWithLauncher(child.pid, 'KILL'));
  return child;
}

async function answers(child: ChildProcess, port: number, zone: string, directory: string): Promise<void> {
  for (let i = 0; ; i++) {
    const asked = ['@127.0.0.1', '-p', String(port), '+tries=1', '+time=1', '+short', zone, 'SOA'];
    if (spawnSync('dig', asked, { encoding: 'utf8' }).stdout.includes('hostmaster')) return;
    if (i === 50 || child.exitCode !== null) throw new Error(`named does not answer; see ${directory}/named.log`);
    await delay(100);
  }
}

/** Starts a real BIND that is authoritative for the zones, and whose records nsupdate can change. */
export async function startBind(zones: readonly string[], extraZoneFiles: Record<string, string> = {}): Promise<Bind> {
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-bind-'));
  chmodSync(directory, 0o755);
  mkdirSync(join(directory, 'zones'));
  const [port, dohPort] = [await freePort(), await freePort()];
  const key = execFileSync('tsig-keygen', ['ddns-key'], { encoding: 'utf8' });
  writeFileSync(join(directory, 'ddns.key'), key);
  for (const zone of zones)
    writeFileSync(
      join(directory, 'zones', zone),
      `$TTL 60\n@ SOA ns.${zone}. hostmaster.${zone}. 1 3600 600 86400 60\n@ NS ns.${zone}.\nns A 127.0.0.1\n`,
    );
  const zoneFiles = { 'sendmux.ai': platformZone, ...extraZoneFiles };
  for (const [zone, text] of Object.entries(zoneFiles)) writeFileSync(join(directory, 'zones', zone), text);
  writeFileSync(
    join(directory, 'named.conf'),
    `include "${directory}/ddns.key";
controls { };
http local-doh { endpoints { "/dns-query"; }; listener-clients 300; streams-per-connection 200; };
options {
  directory "${directory}";
  pid-file "${directory}/named.pid";
  session-keyfile "${directory}/session.key";
  managed-keys-directory "${directory}";
  listen-on-v6 { none; };
  listen-on port ${port} { 127.0.0.1; };
  listen-on port ${dohPort} tls none http local-doh { 127.0.0.1; };
  recursion no;
  querylog no;
  allow-query { 127.0.0.1; };
  allow-transfer { none; };
  dnssec-validation no;
  notify no;
  minimal-responses yes;
};
logging { channel f { file "${directory}/named.log"; severity info; }; category default { f; }; };
${[...zones, ...Object.keys(zoneFiles)]
  .map((zone) => `zone "${zone}" { type primary; file "${directory}/zones/${zone}"; allow-update { key ddns-key; }; };`)
  .join('\n')}
`,
  );
  const child = spawnNamed(directory);
  const first = zones[0] ?? Object.keys(extraZoneFiles)[0]!;
  await answers(child, port, first, directory);
  return {
    port,
    dohUrl: `http://127.0.0.1:${dohPort}/dns-query`,
    update: (...lines) => {
      const script = [`server 127.0.0.1 ${port}`, ...lines.map((line) => `update ${line}`), 'send', ''].join('\n');
      execFileSync('nsupdate', ['-k', join(directory, 'ddns.key')], { input: script });
    },
    pause: () => {
      child.kill('SIGSTOP');
      // The signal stops one thread after the other; until the last is stopped, named may still answer.
      while (!stands(child.pid!)) continue;
    },
    resume: () => child.kill('SIGCONT'),
    stop: () => {
      child.kill('SIGKILL');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
