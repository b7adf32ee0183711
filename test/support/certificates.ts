import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Certificate {
  readonly key: string;
  readonly cert: string;
}

export interface Certificates {
  /** The authority that has signed the certificates but the self-signed one. */
  readonly ca: string;
  readonly good: Certificate;
  /** It ends in the second in which it is made. */
  readonly expired: Certificate;
  readonly selfSigned: Certificate;
}

export const opensslIsInstalled = (): boolean => spawnSync('openssl', ['version']).status === 0;

/** Makes certificates for a name of the DNS, or an IP address. */
export function certificatesFor(name: string): Certificates {
  const alternative = `subjectAltName=${isIP(name) ? 'IP' : 'DNS'}:${name}`;
  const directory = mkdtempSync(join(tmpdir(), 'sendmux-certificates-'));
  const path = (file: string) => join(directory, file);
  const read = (file: string) => readFileSync(path(file), 'utf8');
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
  try {
    for (const key of ['ca.key', 'host.key'])
      openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', key);
    writeFileSync(path('extensions'), `${alternative}\n`);
    openssl('req', '-x509', '-new', '-key', 'ca.key', '-subj', '/CN=Authority', '-days', '2', '-out', 'ca.pem');
    openssl('req', '-new', '-key', 'host.key', '-subj', '/CN=Host', '-out', 'host.csr');
    const sign = (days: string, file: string) =>
      openssl(
        'x509',
        '-req',
        '-in',
        'host.csr',
        '-CA',
        'ca.pem',
        '-CAkey',
        'ca.key',
        '-CAcreateserial',
        '-days',
        days,
        '-extfile',
        'extensions',
        '-out',
        file,
      );
    sign('0', 'expired.pem');
    sign('2', 'good.pem');
    openssl(
      'req',
      '-x509',
      '-new',
      '-key',
      'host.key',
      '-subj',
      '/CN=Host',
      '-days',
      '2',
      '-out',
      'self.pem',
      '-addext',
      alternative,
    );
    const key = read('host.key');
    return {
      ca: read('ca.pem'),
      good: { key, cert: read('good.pem') },
      expired: { key, cert: read('expired.pem') },
      selfSigned: { key, cert: read('self.pem') },
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
